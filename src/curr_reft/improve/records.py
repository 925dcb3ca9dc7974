"""What travels through phase 2: a candidate answer, the verdict on it, what was kept."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from curr_reft.questions.question import Question
from curr_reft.rewards.grade import Grade, Status

CRITERIA = ("accuracy", "logic", "format", "fluency")
"""The paper's four criteria (Curr-ReFT section 3.3), each scored 0 to 100."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One sampled answer to a query, with the grade of the project's own verifier."""

    question: Question
    sample: int  # its number among the answers to the query
    completion: str
    truncated: bool
    grade: Grade
    tokens: int | None = None  # of the completion; None where no model wrote it here

    @property
    def id(self) -> str:
        return f"{self.question.id}#{self.sample}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A judge's scores of one candidate, 0 to 100. A failure is no verdict, never a zero: ``failure`` says why."""

    candidate_id: str
    scores: Mapping[str, float]  # by criterion; empty when failed
    total: float | None
    failure: str | None = None  # "kind: what was found"
    comment: str = ""  # the judge's, if it gave one
    reply: str = ""  # what the judge wrote where that holds no verdict, cut and without secrets
    rubric: str | None = None  # version and hash of the rubric it was judged by; None: by rules

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    """A row of candidates.parquet."""
    question, grade = candidate.question, candidate.grade
    return {
        "id": candidate.id,
        "question": question.id,
        "domain": question.domain,
        "task": question.task,
        "prompt": question.prompt,
        "sample": candidate.sample,
        "completion": candidate.completion,
        "truncated": candidate.truncated,
        "tokens": candidate.tokens,
        "status": str(grade.status),
        "format": grade.format,
        "accuracy": grade.accuracy,
        "correct": grade.correct,
        "reason": grade.reason,
    }


def candidate_of(row: Mapping[str, Any], question: Question) -> Candidate:
    """The candidate that ``candidate_row`` wrote, with its question."""
    grade = Grade(
        status=Status(row["status"]),
        format=row["format"],
        accuracy=row["accuracy"],
        correct=row["correct"],
        reason=row["reason"],
    )
    return Candidate(
        question=question,
        sample=row["sample"],
        completion=row["completion"],
        truncated=row["truncated"],
        grade=grade,
        tokens=row["tokens"],
    )
