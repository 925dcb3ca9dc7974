"""The reward as named parts: format and accuracy (``grading.py``), optional shaping, custom rewards.

What a completion is worth is the weighted sum of its parts (``grading.total``). Gates, the choice of checkpoints,
evaluation and difficulty read the outcome alone (accuracy, correct), so shaping is asked for in training and by
``curr-reft grade``, and nowhere else.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from curr_reft.rewards.agreement import conclusion, own_words
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.custom import CustomReward, Logged, TrainerState, load_custom
from curr_reft.rewards.grade import Grade
from curr_reft.rewards.grading import Completed, grade_all
from curr_reft.rewards.length import length_part
from curr_reft.rewards.repetition import repetition_part
from curr_reft.rewards.scoring import Scores, score_custom
from curr_reft.rewards.words import words

Shaping: TypeAlias = Callable[[Sequence[Completed], Sequence[Grade], RewardsConfig], list[float | None]]


class Parts:
    """The parts of a recipe's reward beside format and accuracy. Its functions are loaded when it is made."""

    def __init__(self, config: RewardsConfig) -> None:
        """Raises RecipeError when a custom reward cannot be loaded."""
        self.config = config
        self.shaping = {name: part for name, part in SHAPING.items() if getattr(config, name) is not None}
        self.custom: tuple[CustomReward, ...] = load_custom(config.custom)

    def add(
        self,
        grades: Sequence[Grade],
        completed: Sequence[Completed],
        state: TrainerState | None = None,
        logged: Logged | None = None,
    ) -> list[Grade]:
        """The grades with all parts of the recipe, in order. Raises TrainingError as ``score_custom`` does."""
        values = {name: part(completed, grades, self.config) for name, part in self.shaping.items()}
        logged = logged or Logged(count=len(completed))
        scores = score_custom(self.custom, completed, grades, state or TrainerState(), logged)
        weights = self.config.weights()
        return [
            _with_parts(
                grade,
                {name: column[row] for name, column in values.items()},
                {name: (column, row) for name, column in scores.items()},
                weights,
            )
            for row, grade in enumerate(grades)
        ]


def _with_parts(
    grade: Grade,
    shaping: dict[str, float | None],
    custom: dict[str, tuple[Scores, int]],
    weights: dict[str, float],
) -> Grade:
    """``grade`` with its further parts. A custom reward that broke down is its state, unless it is only logged."""
    if not shaping and not custom:
        return grade
    failures = {name: failure for name, (scores, row) in custom.items() if (failure := scores.failures[row])}
    graded = replace(
        grade,
        extra={**grade.extra, **shaping, **{name: scores.values[row] for name, (scores, row) in custom.items()}},
        failed=tuple(failures),
    )
    paid = [name for name in failures if weights[name]]
    if not paid or grade.accuracy is None:
        return graded
    why = failures[paid[0]]
    return replace(graded, status=why.status, reason=f"reward {paid[0]} {why.reason}")


def _length(completed: Sequence[Completed], grades: Sequence[Grade], config: RewardsConfig) -> list[float | None]:
    own = config.length
    assert own is not None
    counted = (_units(row, own.unit) for row in completed)
    return [None if units is None else length_part(len(units), own.low, own.high, own.margin) for units in counted]


def _repetition(completed: Sequence[Completed], grades: Sequence[Grade], config: RewardsConfig) -> list[float | None]:
    own = config.repetition
    assert own is not None
    counted = (_units(row, own.unit) for row in completed)
    return [None if units is None else repetition_part(units, own.ngram) for units in counted]


def _agreement(completed: Sequence[Completed], grades: Sequence[Grade], config: RewardsConfig) -> list[float | None]:
    """Conclusions of right answers of the right form, graded as answers, together; 0 for all others."""
    own = config.agreement
    assert own is not None
    values: list[float | None] = [None if grade.accuracy is None else 0.0 for grade in grades]
    asked: list[tuple[int, Completed]] = []
    for row, (one, grade) in enumerate(zip(completed, grades, strict=True)):
        concluded = conclusion(one.completion) if grade.correct and grade.format == 1.0 else None
        if concluded is not None and own_words(concluded.reasoning, one.question.prompt) >= own.min_words:
            asked.append((row, one._replace(completion=f"<answer>{concluded.answer}</answer>")))
    for (row, _), found in zip(asked, grade_all([one[:3] for _, one in asked], config), strict=True):
        values[row] = None if found.correct is None else float(found.correct)
    return values


def _units(row: Completed, unit: str) -> Sequence[str] | Sequence[int] | None:
    return words(row.completion) if unit == "words" else row.token_ids


SHAPING: dict[str, Shaping] = {"length": _length, "repetition": _repetition, "agreement": _agreement}
"""A section of RewardsConfig -> its part. A new one is a section, a file and a line here."""
