"""Answers of an earlier version are scored again; damaged files are told by name, and not by a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_rows import question

from curr_reft.data.frame import BoxFrame
from curr_reft.errors import DataError
from curr_reft.evaluate.earlier import evaluated_before, renewed
from curr_reft.evaluate.predictions import prediction_rows
from curr_reft.evaluate.suites import cell_scores
from curr_reft.files import read_json, read_jsonl
from curr_reft.policy.answers import Answered
from curr_reft.rewards.grading import grade

ASKED = {"math": [question(name) for name in "abc"]}
ANSWERED = {
    cell: [
        Answered(question=each, completion=text, truncated=False, grade=grade(each, text))
        for each, text in zip(own, (f"<think>x</think><answer>{n}</answer>" for n in (5, 6, 7)), strict=True)
    ]
    for cell, own in ASKED.items()
}
SCORES = cell_scores(ANSWERED, 200)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """As a version wrote them that knew no clusters."""
    record, answers = tmp_path / "base.general.json", tmp_path / "base.general.jsonl"
    rows = [{**row} for row in prediction_rows(ANSWERED, {}, BoxFrame("pixels"))]
    answers.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "cluster"}) + "\n" for row in rows))
    cells = {cell: {k: v for k, v in own.items() if k != "clusters"} for cell, own in SCORES.items()}
    record.write_text(json.dumps({"weights_sha256": "a", "cells": cells}))
    return record, answers


def known(files: tuple[Path, Path]) -> dict[str, Any] | None:
    record = evaluated_before(files, "a")
    return None if record is None else renewed(record, "cells", files, ASKED, lambda rows: cell_scores(rows, 200))


def test_they_are_scored_as_this_version_does_once(files: tuple[Path, Path]) -> None:
    assert known(files) == SCORES
    assert read_json(files[0])["cells"] == SCORES
    assert len({row["cluster"] for row in read_jsonl(files[1])}) == 3
    files[1].write_text("no rows any more\n")
    assert known(files) == SCORES  # which stand in the record
    assert evaluated_before(files, "b") is None
    files[1].unlink()
    assert known(files) is None


def test_answers_to_other_questions_are_asked_for_again(files: tuple[Path, Path]) -> None:
    files[1].write_text("".join(files[1].read_text().splitlines(keepends=True)[:2]))
    assert known(files) is None


@pytest.mark.parametrize(
    ("place", "damage"),
    [
        (0, lambda text: text[:-2]),
        (0, lambda text: "[1]"),
        (0, lambda text: text.replace('"cells"', '"cell"')),
        (0, lambda text: text.replace('"mean"', '"men"')),
        (1, lambda text: text.replace('"status"', '"stat"')),
        (1, lambda text: text.replace('"ok"', '"fine"')),
        (1, lambda text: text.replace('"score": 1.0', '"score": 7.0')),
        (1, lambda text: "[1]\n" + text),
        (1, lambda text: "{" + text),
    ],
)
def test_what_was_damaged_is_told_by_file(files: tuple[Path, Path], place: int, damage: Callable[[str], str]) -> None:
    files[place].write_text(damage(files[place].read_text()))
    before = [path.read_bytes() for path in files]
    with pytest.raises(DataError, match=r"remove it and --resume, and the model is asked again") as told:
        known(files)
    assert str(files[place]) in str(told.value)
    assert [path.read_bytes() for path in files] == before
