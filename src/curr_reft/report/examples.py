"""Test questions with the answers of the base and of the last model side by side, wrong ones included.

Which ones are shown is fixed by rules, not by taste: see ``gallery``.
"""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from curr_reft.data.images import FileImage
from curr_reft.data.item import Box
from curr_reft.data.picture import Mark, picture
from curr_reft.errors import DataError
from curr_reft.report.read import SPLITS, RunFiles, label_of, number

STATUSES = {
    "truncated": "cut off by the token limit",
    "no_answer": "no answer block",
    "unparsable": "not readable as an answer",
    "timed_out": "grading timed out",
    "grader_failed": "grading failed",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One model's answer to one question."""

    label: str  # the model
    picture: Markup | None  # with true and predicted box; None where the task has none
    completion: str
    correct: bool
    verdict: str  # "right", "wrong", or how grading ended
    score: str


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question."""

    task: str
    question: str  # the first line of the prompt
    instructions: str  # what follows it
    truth: str
    picture: Markup | None  # one picture for both answers, where no box is asked for
    answers: list[Answer]


@dataclass(frozen=True, kw_only=True)
class ExampleGroup:
    """The examples of one split and task."""

    split: str
    task: str
    right: int  # of the last model
    total: int
    examples: list[Example]


def gallery(files: RunFiles, per_group: int = 4) -> list[ExampleGroup]:
    """Up to ``per_group`` questions a split and task.

    Taken are the questions that have an image, else any, in the order of the file: by turns one that the last model
    gets wrong, one that it alone gets right, one that both get right; what is left fills up.
    """
    models = [model for model, rows in files.predictions.items() if rows]
    if not models:
        return []
    shown = models if len(models) < 2 else [models[0], models[-1]]
    rows = {model: {str(row.get("id")): row for row in files.predictions[model]} for model in shown}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows[shown[-1]].values():
        groups.setdefault((str(row.get("split")), str(row.get("task"))), []).append(row)
    found = []
    order = list(SPLITS)
    for (split, task), members in sorted(
        groups.items(), key=lambda pair: order.index(pair[0][0]) if pair[0][0] in order else len(order)
    ):
        candidates = [row for row in members if row.get("image")] or members
        picked = _by_turns(candidates, rows[shown[0]], per_group)
        found.append(
            ExampleGroup(
                split=SPLITS.get(split, split),
                task=task,
                right=sum(bool(row.get("correct")) for row in members),
                total=len(members),
                examples=[_example(files, shown, rows, str(row.get("id"))) for row in picked],
            )
        )
    return found


def _by_turns(candidates: list[dict[str, Any]], base: dict[str, dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    kinds: tuple[list[dict[str, Any]], ...] = ([], [], [])
    for row in candidates:
        base_right = bool(base.get(str(row.get("id")), {}).get("correct"))
        kinds[0 if not row.get("correct") else 1 if not base_right else 2].append(row)
    picked: list[dict[str, Any]] = []
    while len(picked) < limit and any(kinds):
        picked += [kind.pop(0) for kind in kinds if kind]
    return picked[:limit]


def _example(
    files: RunFiles, models: list[str], rows: dict[str, dict[str, dict[str, Any]]], identifier: str
) -> Example:
    last = rows[models[-1]][identifier]
    task = str(last.get("task", ""))
    with_boxes = bool(_boxes(last.get("truth_boxes")))
    shared = None if with_boxes else _picture(files, last, f"Test image of a {task} question")
    question, _, instructions = str(last.get("prompt") or "").strip().partition("\n")
    answers = []
    for model in models:
        row = rows[model].get(identifier)
        if row is None:
            continue
        label = label_of(model)
        status, value = str(row.get("status", "ok")), number(row.get("score"))
        answers.append(
            Answer(
                label=label,
                picture=_picture(
                    files, row | {"image": row.get("image") or last.get("image")}, f"True box and box of {label}"
                )
                if with_boxes
                else None,
                completion=str(row.get("completion", "")),
                correct=bool(row.get("correct")),
                verdict=STATUSES.get(status, "right" if row.get("correct") else "wrong"),
                score="" if value is None else f"{100 * value:.0f}",
            )
        )
    return Example(
        task=task,
        question=question,
        instructions=instructions.strip(),
        truth=_text(last.get("truth")),
        picture=shared,
        answers=answers,
    )


def _picture(files: RunFiles, row: dict[str, Any], label: str) -> Markup | None:
    """The row's image with its boxes. Paths are taken from inside the run directory only."""
    if not isinstance(row.get("image"), str):
        return None
    marks = [
        Mark(box, kind)
        for key, kind in (("truth_boxes", "truth"), ("predicted_boxes", "predicted"))
        for box in _boxes(row.get(key))
    ]
    try:
        image = FileImage(files.path, row["image"]).open()
    except DataError as error:
        note = f"{row['image']}: {error.reason}"
        if note not in files.missing:
            files.missing.append(note)
        return None
    return Markup(picture(image, marks, label))


def _boxes(value: Any) -> list[Box]:
    return [box for each in value if (box := _box(each)) is not None] if isinstance(value, list) else []


def _box(value: Any) -> Box | None:
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    x1, y1, x2, y2 = map(number, value)
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return None
    return (x1, y1, x2, y2)


def _text(truth: Any) -> str:
    if isinstance(truth, list):
        return ", ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in truth)
    return str(truth if truth is not None else "")
