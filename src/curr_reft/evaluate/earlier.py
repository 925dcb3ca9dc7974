"""Answers that an earlier version of this program kept: they are scored again as this one does, and not asked again.

Earlier versions did not note which answers share a picture (``clusters.py``), and gave intervals as if none did.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_reft import processes
from curr_reft.evaluate.clusters import clusters_of
from curr_reft.files import read_jsonl, write_json, write_jsonl
from curr_reft.policy.answers import Answered
from curr_reft.questions.question import Question
from curr_reft.rewards.grade import Grade, Status

Score = Callable[[Mapping[str, Sequence[Answered]]], dict[str, Any]]


def renewed(record: Mapping[str, Any], key: str, files: tuple[Path, Path], asked: Mapping[str, Sequence[Question]],
            score: Score) -> dict[str, Any] | None:  # fmt: skip
    """The scores under ``key`` of a record; those of an earlier version are made anew from its file of answers by
    ``score``, and both ``files`` (of the record, of the answers) written again. None where other questions were asked.
    """
    if all("clusters" in cell for cell in _means(record[key])):
        return dict(record[key])

    def renew() -> dict[str, Any] | None:
        rows = read_jsonl(files[1])
        answers = _answers(rows, asked)
        if answers is None:
            return None
        clusters = clusters_of([row.question for own in answers.values() for row in own])
        write_jsonl(files[1], [{**row, "cluster": each} for row, each in zip(rows, clusters, strict=True)])
        scores = score(answers)
        write_json(files[0], {**record, key: scores})
        return scores

    return processes.on_main(renew)


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
