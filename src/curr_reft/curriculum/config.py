"""Sections of the recipe that order the training: stages, gates, replay, validation."""

from typing import Literal

from pydantic import Field, model_validator

from curr_reft.config import Config


class GateConfig(Config):
    """Ends a stage before its budget. Both rules read the mean accuracy of the stage's own forms in rollouts."""

    accuracy: float | None = Field(
        0.8, gt=0, le=1, description="the stage ends when the mean over the window reaches this; null: off"
    )
    plateau: float | None = Field(
        None,
        ge=0,
        description="the stage ends when the window is better than the window before by less than this; null: off",
    )
    window: int = Field(10, ge=1, description="updates over which accuracy is averaged")
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


class CurriculumConfig(Config):
    """Phase 1: the stages in their order (Curr-ReFT section 3.2)."""

    stages: tuple[StageConfig, ...] = Field(
        description="in order; each starts from the best checkpoint of the one before"
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

    def planned_updates(self) -> dict[str, float]:
        """Form -> updates planned for it, when no gate ends a stage early; replay left out."""
        planned: dict[str, float] = {}
        left = self.total_steps
        for stage in self.stages:
            steps = left if stage.steps == "rest" else stage.steps
            left -= steps
            for form, weight in stage.forms.items():
                planned[form] = planned.get(form, 0.0) + steps * weight / sum(stage.forms.values())
        return planned
