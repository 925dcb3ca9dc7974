"""The corpora of whole completions that must, and must not, be paid, through the door of ``curr-reft grade``.

A row of ``must_be_paid`` says what it earns (``expected``). A row of ``must_not_be_paid`` earns no accuracy, or has no
score; ``at_most`` is the share that a measure of overlap owes to a list of everything, and ``only`` says that the
format is what must not be paid (``format``), or neither (``both``). Every row has a note: the style, or the attack.
"""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from curr_reft.questions.forms import FORMS
from curr_reft.rewards.command import grade_lines
from curr_reft.tasks import TASKS

HERE = Path(__file__).parent
MUST, MUST_NOT = sorted((HERE / "must_be_paid").glob("*.jsonl")), sorted((HERE / "must_not_be_paid").glob("*.jsonl"))
LEAST = 450  # distinct completions in each corpus


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def graded(path: Path) -> list[dict[str, Any]]:
    out = io.StringIO()
    grade_lines(path.read_text(encoding="utf-8").split("\n"), out)
    return [json.loads(line) for line in out.getvalue().split("\n") if line]


def shown(row: dict[str, Any]) -> str:
    earned = f"accuracy {row['accuracy']}, format {row['format']}, {row['status']}"
    return f"{row['note']}; {row['task']}, {row['form']}, truth {row['truth']!r}: {row['completion'][:300]!r}: {earned}"


@pytest.mark.parametrize("path", MUST, ids=lambda path: path.stem)
def test_answers_that_must_be_paid(path: Path) -> None:
    wrong = [
        shown(row)
        for row in graded(path)
        if row["accuracy"] != pytest.approx(row["expected"]["accuracy"]) or row["format"] != row["expected"]["format"]
    ]
    assert not wrong, "\n".join(wrong)


def is_paid(row: dict[str, Any]) -> bool:
    only = row.get("only", "accuracy")
    if only in ("format", "both") and row["format"] != 0.0:
        return True
    return only in ("accuracy", "both") and (row["accuracy"] or 0.0) > row.get("at_most", 0.0)


@pytest.mark.parametrize("path", MUST_NOT, ids=lambda path: path.stem)
def test_answers_that_must_not_be_paid(path: Path) -> None:
    rows = graded(path)
    paid = [shown(row) for row in rows if is_paid(row)]
    assert not paid, "\n".join(paid)
    # No score is a state of its own: only what hangs a worker may end there, and no grader breaks down.
    without = [shown(row) for row in rows if row["accuracy"] is None and row["status"] != "timed_out"]
    assert not without, "\n".join(without)
    assert sum(row["accuracy"] is None for row in rows) <= (2 if path.stem == "hostile_to_the_grader" else 0)


@pytest.mark.parametrize("paths", [MUST, MUST_NOT], ids=["must", "must_not"])
def test_a_corpus_covers_every_task_and_form_without_filler(paths: list[Path]) -> None:
    rows = [row for path in paths for row in rows_of(path)]
    assert len({row["completion"] for row in rows}) >= LEAST
    keys = [json.dumps([row.get(key) for key in ("task", "form", "truth", "completion", "options")]) for row in rows]
    assert len(set(keys)) == len(keys), "a row stands twice"
    assert all(row["note"].strip() for row in rows)
    cells = Counter((row["task"], row["form"]) for row in rows)
    assert set(cells) == {(task, form) for task in TASKS if task != "judged" for form in FORMS}
    assert min(cells.values()) >= 4, cells
