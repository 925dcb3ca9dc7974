"""Items written as rows of the reference data set, so that any tool (and ``load.py``) can read them back."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curr_reft.data.item import ImageSource, Item, Truth
from curr_reft.errors import DataError
from curr_reft.files import write_jsonl

IMAGES = "images"


def export_rows(items: Iterable[Item], folder: Path) -> dict[str, Path]:
    """Writes ``folder/SPLIT.jsonl`` for each split and the images as ``folder/images/*.png``; returns the files.

    Boxes are in pixels of the PNG, which is the image as opened. Raises DataError for a truth that holds tags itself.
    """
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        rows.setdefault(item.split, []).append(_row(item, folder))
    files = {split: folder / f"{split}.jsonl" for split in rows}
    for split, path in files.items():
        write_jsonl(path, rows[split])
    return files


def _row(item: Item, folder: Path) -> dict[str, Any]:
    text = truth_text(item.truth)
    if "<" in text and ("answer>" in text.lower() or "<think" in text.lower()):
        raise DataError(item.source or item.id, f"truth {text!r} holds a tag and cannot be written inside <answer>")
    row: dict[str, Any] = {
        "problem": item.question,
        "solution": f"<answer>{text}</answer>",
        "task": item.task,
    }
    paths = [_save(image, folder) for image in item.images]
    if paths:
        row["image"] = paths[0] if len(paths) == 1 else paths
    if item.domain:
        row["domain"] = item.domain
    if item.distractors:
        row["distractors"] = [list(each) if isinstance(each, tuple) else each for each in item.distractors]
    return row


def truth_text(truth: Truth) -> str:
    """An expression as it is; a box or names as a JSON list."""
    return truth if isinstance(truth, str) else json.dumps(list(truth), ensure_ascii=False)


def _save(image: ImageSource, folder: Path) -> str:
    # Keys may hold any character; their hash names the file, and equal keys share one.
    name = f"{IMAGES}/{hashlib.sha256(image.key.encode()).hexdigest()[:24]}.png"
    path = folder / name
    if not path.exists():
        image.open().save(path)
    return name
