"""What a resumed run may change in its recipe: nothing, but that budgets grow where the result stays exact.

Exact means: the run ends as an unbroken run of the new recipe ends. So a training whose budget grows must not be over
(what is published never changes), and one that is under way must not have read its budget: a learning rate that decays
towards the end of the old budget has already been another one.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curr_reft.planned import planned_trainings
from curr_reft.recipe import Recipe, flatten

_UPDATES = re.compile(
    r"curriculum\.(total_steps|stages\.\d+\.steps)|sft\.steps|self_improvement\.(sft\.steps|rounds|round_steps)"
)
_MONEY = "self_improvement.judge.endpoint.budget"
_MODELS = "evaluation.models"
_ADDED = ("sft", "self_improvement")  # sections that may be added: without them nothing of theirs was done


@dataclass(frozen=True, kw_only=True)
class Change:
    """A key that differs; a value that is not there is given as None with ``has`` false."""

    key: str
    before: Any
    now: Any
    had: bool
    has: bool

    def __str__(self) -> str:
        before, now = (json.dumps(value) if there else "(absent)" for value, there in self._sides())
        return f"{self.key}: {before} -> {now}"

    def _sides(self) -> tuple[tuple[Any, bool], tuple[Any, bool]]:
        return (self.before, self.had), (self.now, self.has)


def changes(before: Recipe, now: Recipe) -> list[Change]:
    """The keys in which two recipes differ, but for ``output``, in alphabetical order."""
    old, new = (flatten(recipe.model_dump(mode="json", exclude={"output"})) for recipe in (before, now))
    return [
        Change(key=key, before=old.get(key), now=new.get(key), had=key in old, has=key in new)
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) or (key in old) != (key in new)
    ]


def refusals(before: Recipe, now: Recipe, phases: Mapping[str, Any], steps: Mapping[str, int]) -> list[str]:
    """Why ``now`` does more than extend the budgets of ``before``, line by line; empty when it may be gone on with.

    ``phases``: those that are over; ``steps``: training -> its last update in the metrics.
    """
    found = changes(before, now)
    other = [change for change in found if not _extends(change, before)]
    lines = [str(change) for change in other]
    return lines or list(_inexact(before, now, phases, steps))


def _extends(change: Change, before: Recipe) -> bool:
    """Whether the key is one that a run may be gone on with when it grows."""
    section = change.key.partition(".")[0]
    if section in _ADDED and getattr(before, section) is None:
        return True
    if change.key == _MODELS:
        return set(change.before) < set(change.now)
    if change.key == _MONEY:
        return change.before is not None and (change.now is None or change.now > change.before)
    return _UPDATES.fullmatch(change.key) is not None


def _inexact(before: Recipe, now: Recipe, phases: Mapping[str, Any], steps: Mapping[str, int]) -> Iterator[str]:
    """Trainings that changed in a way by which their result would not be that of an unbroken run."""
    new = {training.name: training for training in planned_trainings(now)}
    planned = planned_trainings(before)
    stages = before.curriculum.scheduled()
    *earlier, last = planned[: len(stages)]
    left = 0  # updates that gates, and stages that were left out, left to the last stage, where that takes the rest
    if stages[-1].steps == "rest":
        left = sum(each.budget - steps.get(each.name, 0) for each in earlier)
    begun = [place for place, old in enumerate(planned) if old.name in phases or steps.get(old.name, 0) > 0]
    for place, old in enumerate(planned):
        training = new.get(old.name)
        budget = training.budget if training is not None else 0
        if training is not None and (budget, training.asks) == (old.budget, old.asks):
            continue
        step = steps.get(old.name, 0)
        what = f"{old.name}: {old.budget} -> {budget} updates"
        if budget < old.budget:
            yield f"{what}: a budget can only grow"
        elif old.name in phases or step >= old.budget + (left if old is last else 0) or place < max(begun, default=-1):
            yield f"{what}: it is over, and what is published does not change; go on from its model in a new run"
        elif step > 0 and training is not None and training.asks != old.asks:
            yield f"{what}: {step} updates were made with other shares of the forms; an unbroken run would differ"
        elif step > 0 and old.read_by is not None:
            yield (
                f"{what}: {step} updates were made for a budget of {old.budget}, which {old.read_by} reads; an "
                "unbroken run would differ"
            )
