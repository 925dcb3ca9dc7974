"""Grade: what a completion earned, and its state. States are not scores: they are counted apart."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """How far grading of a completion came."""

    OK = "ok"  # the answer was read and scored, right or wrong
    TRUNCATED = "truncated"  # the completion hit the token limit before its answer block closed
    NO_ANSWER = "no_answer"  # not exactly one answer block
    UNPARSABLE = "unparsable"  # the answer block holds nothing the (task, form) can read
    TIMED_OUT = "timed_out"  # the grader exceeded its time: no score
    GRADER_FAILED = "grader_failed"  # the grader raised or returned no finite number: no score


@dataclass(frozen=True, kw_only=True)
class Grade:
    """Parts of the reward of one completion, each in [0, 1]. ``accuracy`` is None where there is no score."""

    status: Status
    format: float
    accuracy: float | None
    reason: str = ""  # for statuses that need one

    @property
    def scored(self) -> bool:
        return self.accuracy is not None
