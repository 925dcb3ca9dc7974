"""Answers as rows of a file, and the few test images that the report shows beside them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_reft.data.frame import BoxFrame, boxes_of
from curr_reft.data.item import Box
from curr_reft.evaluate.clusters import clusters_of
from curr_reft.policy.answers import Answered
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.rewards.format import answer_block
from curr_reft.tasks import TASKS


def prediction_rows(
    answers: Mapping[str, Sequence[Answered]], images: Mapping[str, str], frame: BoxFrame
) -> Iterable[dict[str, Any]]:
    """One row an answer. ``images`` maps question ids to saved image files; boxes are in pixels of those images.
    Answers with one ``cluster`` are about the same picture."""
    clusters = iter(clusters_of([row.question for rows in answers.values() for row in rows]))
    for suite, rows in answers.items():
        for row in rows:
            question = row.question
            shown = images.get(question.id)
            boxes = _boxes(row, frame) if shown else {"truth_boxes": [], "predicted_boxes": []}
            yield {
                "id": question.id,
                "split": suite,
                "cluster": next(clusters),
                "task": question.task,
                "form": question.form,
                "prompt": question.prompt,
                "truth": FORMS[question.form].write(question),
                "completion": row.completion,
                "status": str(row.grade.status),
                "format": row.grade.format,
                "score": row.score,
                "correct": bool(row.correct),
                "image": shown,
                **boxes,
            }


def _boxes(row: Answered, frame: BoxFrame) -> dict[str, list[list[float]]]:
    """The boxes that the truth consists of and those of the answer; none for a truth that is no box."""
    question = row.question
    answer = answer_block(row.completion)
    truth = boxes_of(question.truth) if question.form == "open" and question.images else ()
    parsed = TASKS[question.task].parse(answer) if truth and answer is not None else None
    predicted = () if parsed is None else boxes_of(parsed)

    def shown(boxes: Sequence[Box]) -> list[list[float]]:
        return [list(frame.to_original(box, question.images[0].size)) for box in boxes]

    return {"truth_boxes": shown(truth), "predicted_boxes": shown(predicted)}


def save_images(questions: Sequence[Question], per_task: int, folder: Path, prefix: str) -> dict[str, str]:
    """Save the image of the first ``per_task`` questions of each task; question id -> path from the run directory."""
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    saved = {}
    for question in questions:
        number = counts.get(question.task, 0)
        if not question.images or number >= per_task:
            continue
        counts[question.task] = number + 1
        name = f"{prefix}-{question.task}-{number:02d}.png"
        question.images[0].open().save(folder / name)
        saved[question.id] = f"eval/images/{name}"
    return saved
