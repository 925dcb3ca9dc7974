"""The states of grading and the two ways in which a grader gives up. States are not scores: they are counted apart."""

from enum import StrEnum

from curr_reft.errors import GradeError

PATIENCE = 5
"""A truth that was not verified within its time limit is verified once more with so many times the time."""


class Status(StrEnum):
    """How far grading of a completion came."""

    OK = "ok"  # the answer was read and scored, right or wrong
    TRUNCATED = "truncated"  # the completion hit the token limit before its answer block closed
    NO_ANSWER = "no_answer"  # not exactly one answer block
    UNPARSABLE = "unparsable"  # the answer block holds nothing the (task, form) can read
    TIMED_OUT = "timed_out"  # the grader exceeded its time: no score
    GRADER_FAILED = "grader_failed"  # the grader raised or returned no finite number: no score
    NO_TRUTH = "no_truth"  # the question has no truth: a judge may score the answer, a grader cannot


class GradingTimeoutError(GradeError):
    """A verification exceeded its time limit and its worker was killed: there is no score."""


class NoTruthError(GradeError):
    """The question has no truth to compare an answer with: there is no score."""


class VerificationError(GradeError):
    """A verification worker broke down on this pair: there is no score."""
