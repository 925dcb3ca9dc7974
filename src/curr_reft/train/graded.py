"""What the rollouts of a step earned: groups with their grades, the metrics of the step, and the rows that are kept."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curr_reft.policy.types import Group
from curr_reft.questions.question import Question
from curr_reft.rewards.custom import Logged
from curr_reft.rewards.grade import Grade


@dataclass(frozen=True, kw_only=True)
class GradedGroup:
    """A group with what its completions earned. Lists run over the G completions."""

    question: Question
    group: Group
    grades_G: tuple[Grade, ...]
    rewards_G: tuple[float | None, ...]
    advantages_G: tuple[float | None, ...]

    @property
    def teaches(self) -> bool:
        """Whether any completion has an advantage other than 0."""
        return any(self.advantages_G)

    @property
    def differs(self) -> bool:
        """Whether two completions that have a reward differ in accuracy: in the outcome, whatever shaping adds."""
        paid = zip(self.grades_G, self.rewards_G, strict=True)
        return len({grade.accuracy for grade, reward in paid if reward is not None}) > 1


def step_metrics(graded: Sequence[GradedGroup], logged: Logged | None = None) -> dict[str, Any]:
    """What a step's rollouts earned. Means run over completions with a score; shares over all completions.

    ``zero_variance`` is the share of groups of equal reward, which teach nothing; ``same_outcome`` that of groups of
    equal accuracy, which shaping does not hide.
    """
    pairs = [(g, grade, c) for g in graded for grade, c in zip(g.grades_G, g.group.completions, strict=True)]
    rewards = [reward for g in graded for reward in g.rewards_G if reward is not None]
    count = len(pairs)

    def by(key: str) -> dict[str, dict[str, float]]:
        cells: dict[str, list[float]] = defaultdict(list)
        for g, grade, _ in pairs:
            if grade.accuracy is not None:
                cells[getattr(g.question, key)].append(grade.accuracy)
        return {
            name: {"accuracy": sum(values) / len(values), "n": len(values)} for name, values in sorted(cells.items())
        }

    accuracies = [grade.accuracy for _, grade, _ in pairs if grade.accuracy is not None]
    tokens = sum(c.length for *_, c in pairs)
    return {
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "format": sum(grade.format for _, grade, _ in pairs) / count,
        "accuracy": sum(accuracies) / len(accuracies) if accuracies else None,
        "entropy": -sum(float(c.logprobs_T.sum()) for *_, c in pairs) / tokens,
        "zero_variance": sum(not g.teaches for g in graded) / len(graded),
        "same_outcome": sum(len({grade.accuracy for grade in g.grades_G}) == 1 for g in graded) / len(graded),
        "truncated": sum(c.truncated for *_, c in pairs) / count,
        "length": tokens / count,
        "parts": _part_means([grade for _, grade, _ in pairs]),
        **_means_of(logged),
        "statuses": dict(Counter(str(grade.status) for _, grade, _ in pairs)),
        "by_form": by("form"),
        "by_task": by("task"),
    }


def _part_means(grades: Sequence[Grade]) -> dict[str, dict[str, float | None]]:
    """Every part of the reward, before its weight: the mean over the n completions that have it, and how often a
    custom reward broke down."""
    means: dict[str, dict[str, float | None]] = {}
    for name in grades[0].parts:
        values = [value for grade in grades if (value := grade.parts[name]) is not None]
        means[name] = {
            "mean": sum(values) / len(values) if values else None,
            "n": len(values),
            "failed": sum(name in grade.failed for grade in grades),
        }
    return means


def _means_of(logged: Logged | None) -> dict[str, dict[str, float]]:
    """What custom rewards logged; no key when they logged nothing."""
    if logged is None or not logged.metrics:
        return {}
    return {"logged": {name: _mean(values) for name, values in sorted(logged.metrics.items())}}


def _mean(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return mean if math.isfinite(mean) else sum(value / len(values) for value in values)  # the sum is past the floats


def rollout_records(step: int, graded: Sequence[GradedGroup], logged: Logged | None = None) -> list[dict[str, Any]]:
    """A row for every completion of a step. ``logged`` is JSON: its columns are up to the custom rewards."""
    extra = logged.extra if logged is not None else {}
    rows = [
        {
            "step": step,
            "question": g.question.id,
            "task": g.question.task,
            "form": g.question.form,
            "prompt": g.question.prompt,
            "completion": completion.text,
            "status": str(grade.status),
            "reason": grade.reason,
            "format": grade.format,
            "accuracy": grade.accuracy,
            "parts": grade.parts,
            "reward": reward,
            "advantage": advantage,
            "length": completion.length,
            "truncated": completion.truncated,
        }
        for g in graded
        for completion, grade, reward, advantage in zip(
            g.group.completions, g.grades_G, g.rewards_G, g.advantages_G, strict=True
        )
    ]
    for place, row in enumerate(rows):
        columns = {name: values[place] for name, values in extra.items()}
        row["logged"] = _as_json(columns) if columns else None
    return rows


def _as_json(columns: Mapping[str, Any]) -> str:
    """What custom rewards logged for a completion; a value that JSON cannot hold as the text that Python has for it."""
    try:
        text = json.dumps(columns, default=str, ensure_ascii=False)
        text.encode()
    except Exception:  # keys that are no text, a list in itself, half a character, an object without words
        return json.dumps({str(name): _in_words(value) for name, value in columns.items()})
    return text


def _in_words(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"({type(value).__name__})"
