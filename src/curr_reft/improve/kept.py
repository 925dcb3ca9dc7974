"""The kept answers as a file that other trainers read too: JSON lines of ``messages`` and ``images``.

ms-swift and our own loaders read a row as it is (``<image>`` in the question stands for each picture), LLaMA-Factory by
the ``dataset_info.json`` written beside it, TRL after taking ``<image>`` off (docs/self-improvement.md). Pictures are
files beside the rows: drawn ones are written, files are copied, so that the folder can be moved.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_reft.data.export import IMAGES, Pictures, truth_text
from curr_reft.data.frame import BoxFrame, boxes_of, map_boxes
from curr_reft.data.images import FileImage
from curr_reft.data.loaders.conversation import Tags, exchange
from curr_reft.data.rows import BadRow, rows_of
from curr_reft.data.styles import question_text
from curr_reft.errors import DataError
from curr_reft.files import write_json, write_jsonl
from curr_reft.improve.select import Kept
from curr_reft.questions.question import Question
from curr_reft.rewards.grade import Status
from curr_reft.train.sft import SftExample

KEPT = "kept.jsonl"
IMAGE = "<image>"


def write_kept(folder: Path, kept: Sequence[Kept], frame: BoxFrame) -> None:
    """``kept.jsonl``, its pictures and ``dataset_info.json`` in ``folder``. Boxes in ``solution`` are in pixels of the
    original image; those in the answer stay in the ``frame`` of the model that wrote it. Raises DiskFullError."""
    shutil.rmtree(folder / IMAGES, ignore_errors=True)  # a kill may have left half a picture
    pictures = Pictures(folder)
    write_jsonl(folder / KEPT, [_row(entry, pictures, frame) for entry in kept])
    description = {
        "file_name": KEPT,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }
    write_json(folder / "dataset_info.json", {"kept": description})


def _row(entry: Kept, pictures: Pictures, frame: BoxFrame) -> dict[str, Any]:
    candidate, question = entry.candidate, entry.candidate.question
    row: dict[str, Any] = {
        "id": question.id,
        "domain": question.domain,
        "task": question.task,
        "messages": [
            {"role": "user", "content": IMAGE * len(question.images) + question.prompt},
            {"role": "assistant", "content": candidate.completion},
        ],
        "images": [pictures.path_of(image) for image in question.images],
        "scores": {**entry.verdict.scores, "total": entry.total},
    }
    if candidate.grade.status is not Status.NO_TRUTH:
        truth = question.truth
        if boxes_of(truth):
            size = question.images[0].size
            truth = map_boxes(truth, lambda box: frame.to_original(box, size))
        row["solution"] = truth_text(truth)
    return row


def completion_of(row: Mapping[str, Any]) -> str:
    """The answer in a row of ``write_kept``."""
    return str(row["messages"][-1]["content"])


def read_examples(path: Path) -> list[SftExample]:
    """Rows of ``messages`` and ``images`` as examples to learn, whoever wrote them. Pictures are below the file's
    folder. Raises DataError with every bad row."""
    examples: list[SftExample] = []
    problems: list[tuple[str, str]] = []
    for row in rows_of(path, path.name):
        if isinstance(row, BadRow):
            problems.append((row.source, row.reason))
            continue
        try:
            examples.append(_example(row.fields, path.parent, row.source))
        except DataError as error:
            problems.append((row.source, error.reason))
        except ValueError as error:
            problems.append((row.source, str(error)))
    if problems:
        raise DataError(*problems[0], tuple(problems))
    if not examples:
        raise DataError(path.name, "holds no rows; nothing to learn")
    return examples


def _example(fields: Mapping[str, Any], root: Path, source: str) -> SftExample:
    """Raises ValueError or DataError with the reason."""
    said = exchange(fields.get("messages"), Tags())
    if not said.answer:
        raise ValueError("has no answer: its last message must be the assistant's, and not empty")
    images = tuple(_images(fields.get("images"), root, source))
    question = Question(
        id=source,
        origin=source,
        task=str(fields.get("task") or ""),
        form="open",
        prompt=question_text(said.question, len(images)),
        truth="",
        images=images,
        source=source,
        domain=str(fields.get("domain") or ""),
    )
    return SftExample(question=question, completion=said.answer)


def _images(paths: Any, root: Path, source: str) -> Iterator[FileImage]:
    if not isinstance(paths, list | None):
        raise ValueError(f"images must be a list of paths, not {paths!r}")
    for path in paths or ():
        if not isinstance(path, str):
            raise ValueError(f"images must be a list of paths; it holds {path!r}")
        image = FileImage(root, path, source=source)
        image.check()
        yield image
