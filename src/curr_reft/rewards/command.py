"""``curr-reft grade``: JSON lines in, the same lines with their grades out. No model and no images are needed.

A row is ``{"task", "form", "truth", "completion"}``, with ``options`` (the texts of A, B, ...) where a choice has them,
and any other keys, which are kept; ``truncated``, ``prompt`` and ``completion_ids`` are read where they are given.
Added are ``format``, ``accuracy`` (null where there is no score), ``status``, ``parts`` (every part of the reward by
name, before its weight), ``reward`` (their weighted sum; null where there is no score), and ``reason`` where the status
is not ok.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from curr_reft.errors import DataError
from curr_reft.escaping import visible, visible_json
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import Completed, grade_all, total
from curr_reft.rewards.parts import Parts
from curr_reft.rewards.rows import read_question

FIELDS = ("task", "form", "truth", "completion")


def grade_lines(
    lines: Iterable[str],
    out: TextIO,
    config: RewardsConfig | None = None,
    source: str = "<stdin>",
    account: TextIO | None = None,
) -> int:
    """Grades every row and writes it to ``out``; returns the number of rows. Blank lines are skipped.

    Counts by status and the means of the parts go to ``account``. All rows are checked before the first is graded.
    Raises DataError for the first bad row; its ``problems`` hold all. Raises RecipeError for code that cannot be used.
    """
    config = config or RewardsConfig()
    parts = Parts(config)
    rows: list[dict[str, Any]] = []
    completed: list[Completed] = []
    problems: list[tuple[str, str]] = []
    for number, line in enumerate(lines, start=1):
        line = line.removeprefix("\ufeff")  # a byte order mark, as Windows tools write it
        if not line.strip():
            continue
        try:
            row = _read_row(line)
            completed.append(_completed(row, f"{source}:{number}"))
            rows.append(row)
        except ValueError as error:
            problems.append((f"{source}:{number}", str(error)))
    if problems:
        raise DataError(*problems[0], tuple(problems))
    grades = parts.add(grade_all([each[:3] for each in completed], config), completed)
    rewards = [total(grade, config) for grade in grades]
    for row, grade, reward in zip(rows, grades, rewards, strict=True):
        out.write(visible_json(json.dumps({**row, **_graded(grade, reward)}, ensure_ascii=False)) + "\n")
    if account is not None:
        account.write(visible(summary(grades, rewards)) + "\n")
    return len(rows)


def summary(grades: Sequence[Grade], rewards: Sequence[float | None]) -> str:
    """Counts by status, and the means of the reward and its parts over the rows that have them."""
    counts = Counter(grade.status for grade in grades)
    states = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
    if not grades:
        return "graded no rows"
    columns = {name: [grade.parts[name] for grade in grades] for name in grades[0].parts}
    means = [f"{name} {_mean(values)}" for name, values in columns.items()]
    return f"graded {len(grades)} rows: {states}\nmeans: reward {_mean(rewards)}; {', '.join(means)}"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    left_out = f" (of {len(known)})" if len(known) < len(values) else ""
    return f"{sum(known) / len(known):.3f}{left_out}" if known else "none"


def _graded(grade: Grade, reward: float | None) -> dict[str, Any]:
    return {
        "format": grade.format,
        "accuracy": grade.accuracy,
        "status": str(grade.status),
        "parts": grade.parts,
        "reward": reward,
        **({} if grade.status is Status.OK else {"reason": grade.reason}),
    }


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
    return row


def _completed(row: dict[str, Any], source: str) -> Completed:
    prompt, completion, ids = row.get("prompt", ""), row["completion"], row.get("completion_ids")
    question = read_question(
        row["task"],
        row["form"],
        row["truth"],
        row.get("options"),
        source=source,
        prompt=prompt if isinstance(prompt, str) else "",  # messages of a chat: nothing here reads them
    )
    if not isinstance(completion, str):
        raise ValueError(f"completion {completion!r} is no text; write the whole completion as one string")
    if ids is not None and not (isinstance(ids, list) and all(type(each) is int for each in ids)):
        raise ValueError("completion_ids is no list of whole numbers; write the ids of its tokens, or leave it out")
    return Completed(question, completion, bool(row.get("truncated", False)), None if ids is None else tuple(ids))
