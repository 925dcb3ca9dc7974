"""What was evaluated before. Answers that an earlier version of this program kept are scored again as this one does,
and not asked again.

Earlier versions did not note which answers share a picture (``clusters.py``), and gave intervals as if none did.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_reft import processes
from curr_reft.errors import DataError
from curr_reft.evaluate.clusters import clusters_of
from curr_reft.files import read_json, read_jsonl, write_json, write_jsonl
from curr_reft.policy.answers import Answered
from curr_reft.questions.question import Question
from curr_reft.rewards.grade import Grade, Status

Score = Callable[[Mapping[str, Sequence[Answered]]], dict[str, Any]]


def evaluated_before(files: tuple[Path, Path], weights_sha256: str | None) -> dict[str, Any] | None:
    """The record of an evaluation of these weights, where its two ``files`` (the record, the answers) are there. Raises
    DataError for a record that somebody damaged."""

    def read() -> dict[str, Any] | None:
        if not all(file.is_file() for file in files):
            return None
        try:
            record: dict[str, Any] = read_json(files[0])
            return record if record["weights_sha256"] == weights_sha256 else None
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(files[0], error) from error

    return processes.on_main(read)


def renewed(record: Mapping[str, Any], key: str, files: tuple[Path, Path], asked: Mapping[str, Sequence[Question]],
            score: Score) -> dict[str, Any] | None:  # fmt: skip
    """The scores under ``key`` of a record; those of an earlier version are made anew from its file of answers by
    ``score``, and both ``files`` (of the record, of the answers) written again. None where other questions were asked.
    Raises DataError for a record or answers that somebody damaged.
    """
    try:
        if all("clusters" in cell for cell in _means(record[key])):
            return dict(record[key])
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(files[0], error) from error

    def renew() -> dict[str, Any] | None:
        try:
            rows = read_jsonl(files[1])
            answers = _answers(rows, asked)
            if answers is None:
                return None
            scores = score(answers)
        except (DataError, ValueError, KeyError, TypeError) as error:
            raise _damaged(files[1], error) from error
        clusters = clusters_of([row.question for own in answers.values() for row in own])
        write_jsonl(files[1], [{**row, "cluster": each} for row, each in zip(rows, clusters, strict=True)])
        write_json(files[0], {**record, key: scores})
        return scores

    return processes.on_main(renew)


def _damaged(file: Path, error: Exception) -> DataError:
    found = f"is not as it was written ({type(error).__name__}: {error})"
    return DataError(str(file), f"{found}; remove it and --resume, and the model is asked again")


def _means(scores: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The cells ``mean`` of scores by cell, or by suite and cell."""
    return [scores["mean"]] if "mean" in scores else [suite["mean"] for suite in scores.values()]


def _answers(rows: Sequence[Mapping[str, Any]], asked: Mapping[str, Sequence[Question]]) -> dict[str, Any] | None:
    """The rows as answers to the questions ``asked`` (by suite or cell), in their order; None where they are others."""
    expected = [(name, question) for name, questions in asked.items() for question in questions]
    if [(row["split"], row["id"]) for row in rows] != [(name, question.id) for name, question in expected]:
        return None
    answers: dict[str, list[Answered]] = {}
    for row, (name, question) in zip(rows, expected, strict=True):
        status = Status(row["status"])
        grade = Grade(status=status, format=row["format"], accuracy=row["score"], correct=row["correct"])
        answered = Answered(
            question=question, completion=row["completion"], truncated=status == Status.TRUNCATED, grade=grade
        )
        answers.setdefault(name, []).append(answered)
    return answers
