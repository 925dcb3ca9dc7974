"""The trainings that a recipe plans, in their order, with their budgets: names are those of the run's phases.

What a gate or a stage that is left out changes on the way is not known here. ``run.py`` walks this order.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from curr_reft import rounds
from curr_reft.curriculum.config import StageConfig
from curr_reft.policy.config import Part
from curr_reft.recipe import Recipe
from curr_reft.train.config import HandOn, OptimizerConfig, SftConfig


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """One training: a stage, a baseline, or the fine-tuning of phase 2."""

    name: str  # run/stage, as it is marked done
    budget: int  # updates
    read_by: str | None  # a recipe key by which updates before the last depend on the budget; none: they do not
    freeze: tuple[Part, ...]  # parts of the model that it leaves as they are
    hand_on: HandOn
    asks: StageConfig | None = None  # of RL: the stage, whatever its steps


def planned_trainings(recipe: Recipe) -> list[PlannedTraining]:
    """All trainings of the run, rounds included."""
    curriculum, models, phase_2 = recipe.curriculum, recipe.evaluation.models, recipe.self_improvement
    stages = curriculum.scheduled()
    found: list[PlannedTraining] = []

    def rl(name: str, stage: StageConfig, budget: int) -> None:
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

    spent = 0
    for number, stage in enumerate(stages, start=1):
        budget = curriculum.total_steps - spent if stage.steps == "rest" else stage.steps
        spent += budget
        rl(f"curr_rl/{number:02d}-{stage.name}", stage, budget)
    last = curriculum.stages[-1]
    if "rl" in models:
        rl("rl/rl", last, curriculum.total_steps)
    if "sft" in models:
        assert recipe.sft is not None, "the schema asks for it"
        sft("sft/sft", recipe.sft, "sft")
    if phase_2 is not None:
        for number in range(rounds.FIRST, phase_2.rounds + 1):
            run = rounds.named("self_improvement", number)
            if number > rounds.FIRST:
                name = rounds.rl_stage(number, last.name)
                rl(f"curr_rl/{name}", last, phase_2.round_steps or curriculum.steps()[-1])
            sft(f"{run}/{run}", phase_2.sft, "self_improvement.sft")
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
