"""Sections of the recipe that order the training: stages, their schedule, gates, replay, validation.

The stages stand in the recipe as they were written, whatever the schedule; ``CurriculumConfig.scheduled`` is the one
place that turns them into what is trained. So a resolved recipe is a fixed point: loading it again changes nothing.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from curr_reft.config import Config
from curr_reft.curriculum.wilson import samples_for

Schedule: TypeAlias = Literal["forward", "reversed", "mixed", "binary", "choice", "open"]


class GateConfig(Config):
    """Ends a stage before its budget. Both rules read the mean accuracy of the stage's own forms in rollouts, replayed
    forms left out; the one that holds first ends it."""

    accuracy: float | None = Field(
        0.8, gt=0, le=1, description="the stage ends when the mean over the window reaches this; null: off"
    )
    plateau: float | None = Field(
        None,
        ge=0,
        description="the stage ends when the window is better than the window before by less than this; null: off",
    )
    window: int = Field(10, ge=1, description="updates over which accuracy is averaged")
    patience: int = Field(1, ge=1, description="updates in a row in which a rule must hold before it ends the stage")
    min_steps: int = Field(10, ge=1, description="updates before the gate may act")


class StageConfig(Config):
    """One stage. A stage is data: no code asks which stage it is in."""

    name: str = Field(pattern=r"^[a-z0-9_-]+$", description="folder name of the stage")
    forms: dict[str, float] = Field(description="form -> weight of the form in every batch; {binary: 1} or a mixture")
    steps: int | Literal["rest"] = Field(
        description="budget in updates; 'rest': what earlier stages left of curriculum.total_steps"
    )
    gate: GateConfig | None = Field(None, description="may end the stage before its budget")
    replay: float = Field(0.0, ge=0, lt=1, description="share of prompts drawn from the forms of earlier stages")

    def shares(self, earlier: Sequence[str]) -> dict[str, float]:
        """Form -> share of the prompts: its own forms, and ``replay`` spread evenly over the forms of ``earlier``
        stages that are not its own; without such a form there is nothing to replay and all prompts are its own."""
        old = [form for form in dict.fromkeys(earlier) if form not in self.forms]
        total = sum(self.forms.values())
        own = 1 - self.replay if old else 1.0
        shares = {form: own * weight / total for form, weight in self.forms.items()}
        shares.update({form: self.replay / len(old) for form in old if self.replay > 0})
        return shares


class DifficultyConfig(Config):
    """Which training questions are asked, and in which order, by how often the base answers each rightly. The base is
    asked before the curriculum; validation and test questions are never left out."""

    samples: int = Field(8, ge=1, description="answers sampled for each training question, with the section sampling")
    cache: str | None = Field(
        None,
        min_length=1,
        description="SQLite file of measured answers, which runs may share; null: difficulty/cache.sqlite in the run "
        "directory",
    )
    drop_always_right: bool = Field(True, description="leave out what the base always answers rightly")
    drop_always_wrong: bool = Field(
        False, description="leave out what the base never answers rightly, though easier stages might change that"
    )
    sure: float = Field(
        0.65,
        gt=0,
        lt=1,
        description="always: in all samples, and so many that the lower end of Wilson's interval reaches this (0.65: 8 "
        "samples, 0.9: 35)",
    )
    order: Literal["none", "easy_to_hard", "variance"] = Field(
        "none",
        description="of the questions within a form and task: none (at random), easy_to_hard over the stage, or "
        "variance (more often the more its answers differ)",
    )

    @model_validator(mode="after")
    def _can_drop(self) -> "DifficultyConfig":
        needed = samples_for(self.sure)
        if (self.drop_always_right or self.drop_always_wrong) and self.samples < needed:
            raise ValueError(
                f"{self.samples} samples can never be sure of always (sure {self.sure:g}); at least {needed} can: "
                "raise samples, lower sure, or set drop_always_right and drop_always_wrong to false"
            )
        return self


class CurriculumConfig(Config):
    """Phase 1: the stages in their order (Curr-ReFT section 3.2)."""

    stages: tuple[StageConfig, ...] = Field(description="in order; each starts from what the one before handed on")
    schedule: Schedule = Field(
        "forward",
        description="an ablation of the same updates: forward (the stages as written), reversed, mixed (one stage of "
        "all forms), or one form only",
    )
    total_steps: int = Field(ge=1, description="updates of the whole curriculum, and of the plain-RL and SFT baselines")
    skip_at_chance: bool = Field(
        True, description="leave out an early stage whose form the base answers no better than chance in every task"
    )
    validation_items: int = Field(
        120,
        ge=1,
        description="validation questions a task and form that score a checkpoint (greedy)",
    )

    @model_validator(mode="after")
    def _check(self) -> "CurriculumConfig":
        names = [stage.name for stage in self.stages]
        if not names:
            raise ValueError("at least one stage is needed")
        if len(set(names)) != len(names):
            raise ValueError(f"stage names {names} must be different")
        fixed = sum(stage.steps for stage in self.stages if isinstance(stage.steps, int))
        if fixed > self.total_steps:
            raise ValueError(f"the stages ask for {fixed} steps, more than total_steps {self.total_steps}")
        if any(stage.steps == "rest" for stage in self.stages[:-1]):
            raise ValueError("only the last stage may have steps: rest")
        return self

    def scheduled(self) -> tuple[StageConfig, ...]:
        """The stages in the order in which they are trained. Every schedule plans the same number of updates.

        reversed: a stage keeps its name, forms, planned steps and gate. What depends on the place stays with the
        place: the share of replay, whether the last stage takes the rest, and whether it has a gate (without one there
        is nobody to whom steps could be left, and the ablation would train less).
        mixed: one stage whose forms have the shares that ``planned_updates`` gives them in the curriculum, replay
        counted: the same questions in another order (Curr-ReFT, EMNLP version: easy to hard against mixed, reversed).
        A form: one stage of that form.
        """
        if self.schedule == "forward":
            return self.stages
        if self.schedule == "reversed":
            return tuple(
                stage.model_copy(
                    update={
                        "steps": "rest" if place.steps == "rest" else steps,
                        "replay": place.replay,
                        "gate": None if place is self.stages[-1] and place.gate is None else stage.gate,
                    }
                )
                for stage, steps, place in zip(self.stages[::-1], self.steps()[::-1], self.stages, strict=True)
            )
        forms = self.planned_updates() if self.schedule == "mixed" else {self.schedule: 1.0}
        return (StageConfig(name=self.schedule, forms=forms, steps=sum(self.steps())),)

    def trained_forms(self) -> list[str]:
        """Every form that the schedule, or the plain-RL baseline of the stages as written, may train on."""
        stages = (*self.stages, *self.scheduled())
        return list(dict.fromkeys(form for stage in stages for form in stage.forms))

    def planned_updates(self) -> dict[str, float]:
        """Form -> updates planned for it in the stages as written, replay counted, when no gate ends a stage early."""
        planned: dict[str, float] = {}
        earlier: list[str] = []
        for stage, steps in zip(self.stages, self.steps(), strict=True):
            for form, share in stage.shares(earlier).items():
                planned[form] = planned.get(form, 0.0) + steps * share
            earlier += stage.forms
        return planned

    def steps(self) -> list[int]:
        """The budgets of the stages as written, with the rest in numbers."""
        fixed = [stage.steps for stage in self.stages if stage.steps != "rest"]
        return fixed if len(fixed) == len(self.stages) else [*fixed, self.total_steps - sum(fixed)]
