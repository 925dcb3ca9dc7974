"""Completions in, grades out. ``grade`` is the definition; ``grade_all`` is the fast path for batches.

A reward is never an exception and never NaN: a grader that fails or times out gives "no score" with its reason.
Only the text of the one answer block is read for accuracy (the reference code often reads the whole completion).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from curr_reft.questions.forms import FORMS, AnswerScore
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.format import answer_block, format_reward
from curr_reft.rewards.grade import Grade, Status
from curr_reft.tasks import TASKS
from curr_reft.tasks.base import TaskOptions
from curr_reft.tasks.status import GradingTimeoutError
from curr_reft.tasks.symbolic import verify_all


class Completed(NamedTuple):
    """One completion to grade. ``grade_all`` reads its first three fields."""

    question: Question
    completion: str
    truncated: bool = False  # cut at the token limit
    token_ids: tuple[int, ...] | None = None  # None where no model wrote it here


def grade(
    question: Question,
    completion: str,
    truncated: bool = False,
    config: RewardsConfig | None = None,
    progress: float = 1.0,
) -> Grade:
    """The grade of one completion. Never raises for what a model may write.

    ``progress`` is the share of the stage's steps that is done, for rules that tighten; 1 outside of training.
    """
    options = (config or RewardsConfig()).task_options(progress)
    return _grade(question, completion, truncated, options)


def grade_all(
    completed: Sequence[tuple[Question, str, bool]], config: RewardsConfig | None = None, progress: float = 1.0
) -> list[Grade]:
    """The grades of (question, completion, truncated), in order, equal to those of ``grade``.

    What needs computer algebra is sent to the worker processes together, each pair once. Raises VerificationError when
    no worker process can start, because then no math answer could ever be scored.
    """
    config = config or RewardsConfig()
    options = config.task_options(progress)
    pairs = list(dict.fromkeys(pair for row in completed if (pair := _symbolic_pair(*row)) is not None))
    verdicts = verify_all(pairs, timeout=config.math.timeout, workers=config.math.workers) if pairs else []
    options = replace(options, verdicts=dict(zip(pairs, verdicts, strict=True)))
    return [_grade(question, completion, truncated, options) for question, completion, truncated in completed]


def total(grade: Grade, config: RewardsConfig | None = None) -> float | None:
    """The reward: the weighted sum of the parts, of format and accuracy by default (Curr-ReFT section 3.2).

    A part that is None is left out, as in TRL. None where there is no score: without accuracy, or when a custom reward
    with a weight broke down, the completion cannot be compared with its group.
    """
    weights = (config or RewardsConfig()).weights()
    if grade.accuracy is None or any(weights.get(name) for name in grade.failed):
        return None
    return sum(weights.get(name, 0.0) * value for name, value in grade.parts.items() if value is not None)


def verdict(question: Question, answer: str, config: RewardsConfig | None = None) -> AnswerScore:
    """The score of a bare answer text, without think and answer blocks (for models that answer directly)."""
    return _read(question, answer, (config or RewardsConfig()).task_options())


def _grade(question: Question, completion: str, truncated: bool, options: TaskOptions) -> Grade:
    try:
        paid_format = format_reward(completion, question.task, question.form)
    except GradingTimeoutError as error:
        return Grade(status=Status.TIMED_OUT, format=0.0, accuracy=None, reason=str(error))
    except Exception as error:  # a task's own defect in what it asks of the form of an answer
        return Grade(status=Status.GRADER_FAILED, format=0.0, accuracy=None, reason=_defect(error))
    answer = answer_block(completion)
    if answer is None:
        status = Status.TRUNCATED if truncated and "</answer>" not in completion else Status.NO_ANSWER
        return Grade(status=status, format=paid_format, accuracy=0.0, correct=False, reason="no single answer block")
    score = _read(question, answer, options)
    return Grade(
        status=score.status,
        format=paid_format,
        accuracy=score.accuracy,
        correct=score.correct,
        reason=score.reason,
    )


def _read(question: Question, answer: str, options: TaskOptions) -> AnswerScore:
    try:
        score = FORMS[question.form].read(answer, question, options)
    except Exception as error:  # a grader's own defect: the completion drops out, and the counters show it
        return AnswerScore(status=Status.GRADER_FAILED, accuracy=None, correct=None, reason=_defect(error))
    # NaN is in no range, so it is caught here too.
    if score.accuracy is not None and not 0.0 <= score.accuracy <= 1.0:
        reason = f"the grader returned {score.accuracy!r}, which is not in [0, 1]"
        return AnswerScore(status=Status.GRADER_FAILED, accuracy=None, correct=None, reason=reason)
    return score


def _defect(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _symbolic_pair(question: Question, completion: str, truncated: bool) -> tuple[str, str] | None:
    """What grading of an open answer will ask of ``verify``; None for everything that needs no verification."""
    answer = answer_block(completion) if question.form == "open" else None
    if answer is None:
        return None
    task = TASKS[question.task]
    try:
        parsed = task.parse(answer)
        return task.verification(parsed, question.truth) if parsed is not None else None
    except Exception:  # a defect of the task; grading of this very answer meets it again and says so
        return None
