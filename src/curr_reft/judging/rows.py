"""Answers to judge from a JSONL file, with labels where a judge is to be measured.

A row: ``prompt`` and ``completion`` (text), ``images`` (paths inside the file's folder, optional), ``id`` and
``domain`` (optional), and as label ``correct`` (true or false) or ``score`` (a person's, 0 to 100).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_reft.data.images import FileImage
from curr_reft.data.rows import BadRow, rows_of
from curr_reft.errors import DataError
from curr_reft.improve.records import Candidate
from curr_reft.questions.question import Question
from curr_reft.rewards.grade import Grade, Status


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """An answer and what is known of it."""

    candidate: Candidate
    correct: bool | None = None
    score: float | None = None  # 0 to 100


def read_answers(path: Path, labels: bool) -> list[Labelled]:
    """The rows of ``path``, every one with a label if ``labels``. Raises DataError with all that cannot be used."""
    found: list[Labelled] = []
    problems: list[tuple[str, str]] = []
    for row in rows_of(path, str(path)):
        if isinstance(row, BadRow):
            problems.append((row.source, row.reason))
            continue
        try:
            found.append(_labelled(path, row.source, row.line, row.fields, labels))
        except DataError as error:
            problems += error.problems
    seen: dict[str, int] = {}
    for each in found:
        seen[each.candidate.id] = seen.get(each.candidate.id, 0) + 1
    problems += [(str(path), f"id {name!r} stands {count} times") for name, count in seen.items() if count > 1]
    if not found and not problems:
        problems.append((str(path), "holds no row"))
    if problems:
        raise DataError(*problems[0], tuple(problems))
    return found


def labelled_by_truth(candidates: Sequence[Candidate]) -> list[Labelled]:
    """Candidates of a run that were verified; those without a score of the verifier are left out."""
    return [
        Labelled(candidate=candidate, correct=candidate.grade.correct)
        for candidate in candidates
        if candidate.grade.correct is not None
    ]


def _labelled(path: Path, source: str, line: int, fields: Mapping[str, Any], labels: bool) -> Labelled:
    for name in ("prompt", "completion"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise DataError(source, f"{name} must be text that is not empty, not {fields.get(name)!r:.60}")
    given = fields.get("images", [])
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise DataError(source, f"images must be a list of paths inside {path.parent}, not {given!r:.60}")
    images = tuple(FileImage(root=path.parent, path=each, source=source) for each in given)
    for image in images:
        image.check()
    correct, score = fields.get("correct"), fields.get("score")
    if correct is not None and not isinstance(correct, bool):
        raise DataError(source, f"correct must be true or false, not {correct!r:.60}")
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 100):
        raise DataError(source, f"score must be a number from 0 to 100, not {score!r:.60}")
    if labels and correct is None and score is None:
        raise DataError(source, "has no label; give correct (true or false) or score (0 to 100)")
    name = str(fields.get("id", f"line {line}"))
    question = Question(
        id=name,
        origin=name,
        task="",
        form="open",
        prompt=fields["prompt"],
        truth=None,
        images=images,
        source=source,
        domain=str(fields.get("domain", "")),
    )
    grade = Grade(status=Status.NO_TRUTH, format=0.0, accuracy=None)
    candidate = Candidate(question=question, sample=0, completion=fields["completion"], truncated=False, grade=grade)
    return Labelled(candidate=candidate, correct=correct, score=None if score is None else float(score))
