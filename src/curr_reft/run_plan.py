"""What a run plans and how far it is: its trainings in their order, from its recipe, its phases and its metrics.

The order is that of ``run.py``, in the names under which a run marks its phases done.
"""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic
import pydantic_core

from curr_reft import recipe_source, rounds
from curr_reft.curriculum.config import CurriculumConfig
from curr_reft.errors import UsageError
from curr_reft.run_dir import LAST_PHASE

SPEED_STEPS = 20  # the last ones, whose median is the speed

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What the stored recipe plans. The other sections are not read: those of an older version may read otherwise."""

    curriculum: CurriculumConfig
    models: tuple[str, ...]
    difficulty: bool
    sft: int | None  # updates of the baseline
    self_improvement: int | None  # updates of phase 2, in each round
    rounds: int
    round_steps: int | None  # of the last stage in each further round; none: as planned in the curriculum


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training of the run, as the recipe plans it and the metrics tell it."""

    run: str  # curr_rl, rl, sft, self_improvement, self_improvement_round_2, ...
    stage: str
    state: Literal["done", "left out", "now", "waiting"]
    step: int
    budget: int  # updates; of a training that is done, those it took
    seconds_per_step: float | None  # median of the last updates alone, without validation and saving; none before one
    tokens_per_second: float | None
    seconds_left: float | None  # updates that are left, at this speed or at that of a training of the same kind


def read_plan(path: Path) -> Planned:
    """The plan in the recipe of a run directory. Raises UsageError."""
    data = recipe_source.read(path).data
    try:
        phase_2 = data["self_improvement"]
        return Planned(
            curriculum=CurriculumConfig.model_validate_json(pydantic_core.to_json(data["curriculum"]), strict=True),
            models=tuple(data["evaluation"]["models"]),
            difficulty=data.get("difficulty") is not None,
            sft=data["sft"]["steps"] if data["sft"] is not None else None,
            self_improvement=phase_2["sft"]["steps"] if phase_2 is not None else None,
            rounds=phase_2.get("rounds", rounds.FIRST) if phase_2 is not None else 0,
            round_steps=phase_2.get("round_steps") if phase_2 is not None else None,
        )
    except (KeyError, TypeError, pydantic.ValidationError) as error:
        raise UsageError(
            f"{path} is not a recipe that this version can read ({error}); use the one it ran with"
        ) from error


def plan(recipe: Planned, phases: Row, steps: Mapping[tuple[str, str], int]) -> tuple[str, list[Training]]:
    """(what comes after the last phase that is over, the trainings in their order).

    A phase is over when it, or one after it, is marked done or has metrics: a stage that is left out has neither.
    """
    order = _phases(recipe)
    begun = [place for place, name in enumerate(order) if name in phases or tuple(name.split("/", 1)) in steps]
    last = max(begun, default=-1)
    over = last + 1 if last >= 0 and order[last] in phases else max(last, 0)
    now = order[over] if over < len(order) else LAST_PHASE
    budgets = _budgets(recipe)
    trainings = []
    spent = 0  # updates of the curriculum, and those still planned before its last stage
    for place, name in enumerate(order):
        if name.startswith("eval/") or "/" not in name:
            continue
        run, stage = name.split("/", 1)
        step, budget = steps.get((run, stage), 0), budgets.get(name, 0)
        state: Literal["done", "left out", "now", "waiting"]
        state = "done" if name in phases else "left out" if place < over else "now" if name == now else "waiting"
        if run == "curr_rl":
            budget = recipe.curriculum.total_steps - spent if budget == 0 else budget
            spent += {"done": step, "left out": 0}.get(state, budget)
        budget = {"done": step, "left out": 0}.get(state, budget)
        trainings.append(
            Training(
                run=run, stage=stage, state=state, step=step, budget=budget,
                seconds_per_step=None, tokens_per_second=None, seconds_left=None,
            )
        )  # fmt: skip
    return ("nothing, the run is finished" if LAST_PHASE in phases else now), trainings


def _phases(recipe: Planned) -> list[str]:
    """The names under which a run marks its phases done, in the order of its walk (``run.py``)."""
    wanted = recipe.models
    order = ["difficulty"] if recipe.difficulty else []
    order += ["eval/base"] if "base" in wanted else []
    order += [f"curr_rl/{number:02d}-{stage.name}" for number, stage in enumerate(recipe.curriculum.scheduled(), 1)]
    for name in ("rl", "sft"):
        order += [f"{name}/{name}", f"eval/{name}"] if name in wanted else []
    order += ["eval/curr_rl"] if "curr_rl" in wanted else []
    for number in range(rounds.FIRST, recipe.rounds + 1):
        if number > rounds.FIRST:
            order += [f"curr_rl/{rounds.rl_stage(number, recipe.curriculum.stages[-1].name)}"]
            order += [f"eval/{rounds.named('curr_rl', number)}"] if "curr_rl" in wanted else []
        improvement = rounds.named("self_improvement", number)
        order += [f"{improvement}/{improvement}"]
        order += [f"eval/{rounds.named('curr_reft', number)}"] if "curr_reft" in wanted else []
    return [*order, LAST_PHASE]


def _budgets(recipe: Planned) -> dict[str, int]:
    """Updates of each training by its phase's name; 0 for the stage that takes the rest."""
    found = {
        f"curr_rl/{number:02d}-{stage.name}": 0 if stage.steps == "rest" else stage.steps
        for number, stage in enumerate(recipe.curriculum.scheduled(), 1)
    }
    found["rl/rl"] = recipe.curriculum.total_steps
    if recipe.sft is not None:
        found["sft/sft"] = recipe.sft
    for number in range(rounds.FIRST, recipe.rounds + 1):
        assert recipe.self_improvement is not None, "who has rounds has the section"
        improvement = rounds.named("self_improvement", number)
        found[f"{improvement}/{improvement}"] = recipe.self_improvement
        again = rounds.rl_stage(number, recipe.curriculum.stages[-1].name)
        found[f"curr_rl/{again}"] = recipe.round_steps or recipe.curriculum.steps()[-1]
    return found


def with_speed(planned: list[Training], steps: list[dict[str, Any]]) -> Iterator[Training]:
    """The trainings with their own speed; what has none yet is foretold by the last one of its kind (RL, or SFT)."""
    known: dict[bool, float] = {}
    for each in planned:
        kind = each.run in ("curr_rl", "rl")
        own = [row for row in steps if (row["run"], row["stage"]) == (each.run, each.stage)][-SPEED_STEPS:]
        times = [sum(row["seconds"].values()) for row in own]
        pace = statistics.median(times) if times else None
        if pace is not None:
            known[kind] = pace
        left, speed = max(0, each.budget - each.step), known.get(kind)
        seconds_left = 0.0 if each.state in ("done", "left out") else None if speed is None else left * speed
        yield Training(
            run=each.run, stage=each.stage, state=each.state, step=each.step, budget=each.budget,
            seconds_per_step=pace,
            tokens_per_second=statistics.median(row["tokens_per_second"] for row in own) if own else None,
            seconds_left=seconds_left,
        )  # fmt: skip
