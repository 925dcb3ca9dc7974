"""What a recipe plans: the phases of its run in their order, by the names under which they are marked done, with the
budgets of those that are trainings. ``run.py`` walks this order.

What a gate or a stage that is left out changes on the way is not known here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from curr_reft import rounds
from curr_reft.curriculum.config import StageConfig
from curr_reft.policy.config import Part
from curr_reft.recipe import Recipe
from curr_reft.train.config import HandOn, OptimizerConfig, SftConfig


@dataclass(frozen=True, kw_only=True)
class PlannedPhase:
    """Something that is done once: a measurement, an evaluation, a training."""

    name: str  # as it is marked done; of a training run/stage
    budget: int | None = None  # updates; none: it is no training
    rest: bool = False  # what earlier stages do not use of theirs is added to its budget


@dataclass(frozen=True, kw_only=True)
class PlannedTraining(PlannedPhase):
    """One training: a stage, a baseline, or the fine-tuning of phase 2."""

    budget: int
    read_by: str | None  # a recipe key by which updates before the last depend on the budget; none: they do not
    freeze: tuple[Part, ...]  # parts of the model that it leaves as they are
    hand_on: HandOn
    asks: StageConfig | None = None  # of RL: the stage, whatever its steps


@dataclass(frozen=True, kw_only=True)
class StepAlone:
    """A step of the method that its own command carries out, in a run directory of its own."""

    command: str
    trainings: Mapping[str, int]  # name -> budget

    def phases(self) -> list[PlannedPhase]:
        return [PlannedPhase(name=name, budget=budget) for name, budget in self.trainings.items()]


def planned_trainings(recipe: Recipe) -> list[PlannedTraining]:
    """All trainings of the run, rounds included."""
    return [phase for phase in planned_phases(recipe) if isinstance(phase, PlannedTraining)]


def planned_phases(recipe: Recipe) -> list[PlannedPhase]:
    """All phases of the run but the last one, its report."""
    curriculum, models, phase_2 = recipe.curriculum, recipe.evaluation.models, recipe.self_improvement
    stages = curriculum.scheduled()
    found: list[PlannedPhase] = []

    def rl(name: str, stage: StageConfig, budget: int, rest: bool = False) -> None:
        asks = stage.model_copy(update={"steps": "rest"})
        read = next(_read_by_rl(recipe), None)
        found.append(
            PlannedTraining(
                name=name,
                budget=budget,
                read_by=read,
                freeze=recipe.model.freeze,
                hand_on=recipe.checkpoint.hand_on,
                asks=asks,
                rest=rest,
            )
        )

    def sft(name: str, config: SftConfig, key: str) -> None:
        read = next(_read_by_rate(config.optimizer, f"{key}.optimizer"), None)
        found.append(
            PlannedTraining(
                name=name,
                budget=config.steps,
                read_by=read,
                freeze=recipe.model.freeze if config.freeze is None else config.freeze,
                hand_on=config.hand_on or recipe.checkpoint.hand_on,
            )
        )

    def evaluated(model: str, number: int = rounds.FIRST) -> None:
        if model in models:
            found.append(PlannedPhase(name=f"eval/{rounds.named(model, number)}"))

    if recipe.difficulty is not None:
        found.append(PlannedPhase(name="difficulty"))
    evaluated("base")
    spent = 0
    for number, stage in enumerate(stages, start=1):
        budget = curriculum.total_steps - spent if stage.steps == "rest" else stage.steps
        spent += budget
        rl(f"curr_rl/{number:02d}-{stage.name}", stage, budget, rest=stage.steps == "rest")
    last = curriculum.stages[-1]
    if "rl" in models:
        rl("rl/rl", last, curriculum.total_steps)
        evaluated("rl")
    if "sft" in models:
        assert recipe.sft is not None, "the schema asks for it"
        sft("sft/sft", recipe.sft, "sft")
        evaluated("sft")
    evaluated("curr_rl")
    if phase_2 is not None:
        for number in range(rounds.FIRST, phase_2.rounds + 1):
            run = rounds.named("self_improvement", number)
            if number > rounds.FIRST:
                name = rounds.rl_stage(number, last.name)
                rl(f"curr_rl/{name}", last, phase_2.round_steps or curriculum.steps()[-1])
                evaluated("curr_rl", number)
            sft(f"{run}/{run}", phase_2.sft, "self_improvement.sft")
            evaluated("curr_reft", number)
    return found


def _read_by_rl(recipe: Recipe) -> Iterator[str]:
    yield from _read_by_rate(recipe.rl.optimizer, "rl.optimizer")
    for task in ("detection", "dense_detection"):
        if getattr(recipe.rewards, task).schedule:
            yield f"rewards.{task}.schedule"
    if recipe.rewards.custom:  # they are told how many steps there will be
        yield "rewards.custom"
    if recipe.difficulty is not None and recipe.difficulty.order != "none":
        yield "difficulty.order"


def _read_by_rate(optimizer: OptimizerConfig, key: str) -> Iterator[str]:
    if optimizer.schedule != "constant":
        yield f"{key}.schedule"
    if optimizer.warmup > 0:
        yield f"{key}.warmup"
