"""``curr-reft grade``: JSON lines in, the same lines with their grades out. No model and no images are needed.

A row is ``{"task", "form", "truth", "completion"}``, with ``options`` (the texts of A, B, ...) where a choice has them,
and any other keys, which are kept. ``format``, ``accuracy`` (null where there is no score) and ``status`` are added.
"""

import json
from collections.abc import Iterable
from typing import Any, TextIO

from curr_reft.data.styles import TASK_ALIASES
from curr_reft.errors import DataError
from curr_reft.questions.forms import DECISIONS, FORMS
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grading import grade_all
from curr_reft.tasks import TASKS
from curr_reft.tasks.letters import letter_of, read_letters

FIELDS = ("task", "form", "truth", "completion")


def grade_lines(lines: Iterable[str], out: TextIO, config: RewardsConfig | None = None, source: str = "<stdin>") -> int:
    """Grades every row and writes it to ``out``; returns the number of rows. Blank lines are skipped.

    All rows are checked before the first is graded. Raises DataError for the first bad row; its ``problems`` hold all.
    """
    rows: list[dict[str, Any]] = []
    questions: list[Question] = []
    problems: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = _read_row(line)
            # The row goes back as it came; the reference data calls classification "classify".
            questions.append(_question({**row, "task": _task(row)}, f"{source}:{number}"))
            rows.append(row)
        except ValueError as error:
            problems.append((f"{source}:{number}", str(error)))
    if problems:
        raise DataError(*problems[0], tuple(problems))
    grades = grade_all(
        [
            (question, row["completion"], bool(row.get("truncated", False)))
            for question, row in zip(questions, rows, strict=True)
        ],
        config,
    )
    for row, grade in zip(rows, grades, strict=True):
        graded = {**row, "format": grade.format, "accuracy": grade.accuracy, "status": str(grade.status)}
        out.write(json.dumps(graded, ensure_ascii=False) + "\n")
    return len(rows)


def _read_row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON object on one line ({error}); write one object per line") from error
    if not isinstance(row, dict):
        raise ValueError(f"{type(row).__name__} found; a row is a JSON object with the fields {', '.join(FIELDS)}")
    missing = [field for field in FIELDS if field not in row]
    if missing:
        raise ValueError(f"{missing[0]} is missing; a row has the fields {', '.join(FIELDS)}")
    for field, value, known in (("task", _task(row), TASKS), ("form", row["form"], FORMS)):
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{field} {row[field]!r} is unknown; write one of {', '.join(known)}")
    if not isinstance(row["completion"], str):
        raise ValueError(f"completion {row['completion']!r} is no text; write the whole completion as one string")
    return row


def _task(row: dict[str, Any]) -> Any:
    return TASK_ALIASES.get(row["task"], row["task"]) if isinstance(row["task"], str) else row["task"]


def _question(row: dict[str, Any], source: str) -> Question:
    options = row.get("options") or ()
    if not isinstance(options, list | tuple) or not all(isinstance(text, str) for text in options):
        raise ValueError(f"options {options!r} are no list of texts; write the text of A, B, ... in order")
    if len(options) > 26:
        raise ValueError(f"options has {len(options)} entries; 26 letters are all there are")
    try:
        truth = _TRUTHS[row["form"]](row, tuple(options))
    except ValueError as error:
        raise ValueError(f"truth {row['truth']!r} for {row['task']}, {row['form']}: {error}") from error
    return Question(
        id=source,
        origin=source,
        task=row["task"],
        form=row["form"],
        prompt="",
        truth=truth,
        options=tuple(options),
        source=source,
    )


def _binary_truth(row: dict[str, Any], options: tuple[str, ...]) -> bool:
    raw = row["truth"]
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.strip().lower() in DECISIONS:
        return DECISIONS[raw.strip().lower()]
    raise ValueError('write "yes", "no", true or false')


def _choice_truth(row: dict[str, Any], options: tuple[str, ...]) -> frozenset[str]:
    raw = row["truth"]
    text = ",".join(map(str, raw)) if isinstance(raw, list) else raw
    letters = read_letters(text) if isinstance(text, str) else None
    if letters is None:
        raise ValueError('write the right letters, as "A,C" or ["A", "C"]')
    known = {letter_of(position) for position in range(len(options))}
    if options and not letters <= known:
        raise ValueError(f"there is no option {min(letters - known)}; the options end with {max(known)}")
    return letters


def _open_truth(row: dict[str, Any], options: tuple[str, ...]) -> Any:
    return TASKS[row["task"]].read_truth(row["truth"])


_TRUTHS = {"binary": _binary_truth, "choice": _choice_truth, "open": _open_truth}
