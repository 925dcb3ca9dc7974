"""How far a run is: its trainings in their order with their steps, from what is planned, its phases and its metrics."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from curr_reft.planned import PlannedPhase

SPEED_STEPS = 20  # the last ones, whose median is the speed
FINISHED = "nothing, the run is finished"

Row = Mapping[str, Any]


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


def plan(
    planned: Sequence[PlannedPhase], phases: Row, steps: Mapping[tuple[str, str], int], last: str | None
) -> tuple[str, list[Training]]:
    """(what comes after the last phase that is over, the trainings in their order).

    A phase is over when it, or one after it, is marked done or has metrics: a stage that is left out has neither.
    ``last`` follows on what is ``planned``; none: nothing does.
    """
    order = [each.name for each in planned] + ([last] if last is not None else [])
    begun = [place for place, name in enumerate(order) if name in phases or tuple(name.split("/", 1)) in steps]
    latest = max(begun, default=-1)
    over = latest + 1 if latest >= 0 and order[latest] in phases else max(latest, 0)
    trainings = []
    spared = 0  # updates that earlier stages of the curriculum did not use
    for place, each in enumerate(planned):
        if each.budget is None:
            continue
        run, stage = each.name.split("/", 1)
        step, budget = steps.get((run, stage), 0), each.budget + (spared if each.rest else 0)
        state: Literal["done", "left out", "now", "waiting"]
        state = "done" if each.name in phases else "left out" if place < over else "now" if place == over else "waiting"
        budget = {"done": step, "left out": 0}.get(state, budget)
        spared += each.budget - budget if run == "curr_rl" else 0
        trainings.append(
            Training(
                run=run, stage=stage, state=state, step=step, budget=budget,
                seconds_per_step=None, tokens_per_second=None, seconds_left=None,
            )
        )  # fmt: skip
    return (order[over] if over < len(order) else FINISHED), trainings


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
