"""What the rows of a file are about: where their pictures lie, which task they are, what their boxes are given in."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from curr_reft.data.config import FileEntry
from curr_reft.data.frame import boxes_of
from curr_reft.data.images import FileImage, StoredImage
from curr_reft.data.loaders import LOADERS, LoaderEntry
from curr_reft.data.rows import BadRow
from curr_reft.data.styles import Fields, read_fields
from curr_reft.errors import DataError, UsageError
from curr_reft.init.choices import Choices
from curr_reft.tasks import TASKS

LOOKED_AT = 1000  # rows that are read
PICTURES = 200  # of them, whose pictures are looked for
TABLES = (".csv", ".tsv", ".jsonl")  # what may lie beside the pictures of a folder and say what they are

_NUMBER = re.compile(r"[-+]?\$?\s*\d[\d,. /:%°]*\s*[a-zA-Z°%]{0,12}")
_LETTER = re.compile(r"[A-H]")
_OBJECTS = (
    "detection",
    "its boxes of objects can be asked for in several ways; asked is where the one object of a category is",
    "classification (which categories are shown), or dense_detection (where all are) (--task)",
)
ASKED_OF = {
    **{name: _OBJECTS for name, loader in LOADERS.items() if loader.objects},
    "refcoco": ("detection", "its expressions name one object", ""),
    "refgta": ("detection", "its expressions name one object", ""),
}
"""Format -> the task, why, and what else it could be, for formats that do not say what is asked."""

LONGEST_NAME = 60  # characters of a category's name
FEW_OUTSIDE = 10  # times as many boxes inside: then those outside of their pictures do not tell the unit of all


@dataclass(kw_only=True)
class Looked:
    """The entry of the recipe for one file or folder, as far as it is known."""

    path: Path
    format: str
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    task: str | None = None
    image_root: Path | None = None
    image_prefix: str = ""
    boxes: str = "pixels"
    fields: Sequence[Fields] = ()
    told_boxes: bool = False  # whether the format itself says what boxes are given in
    bad: Sequence[BadRow] = ()


def read_rows(looked: Looked) -> None:
    """Fills in ``fields``. Raises UsageError where no row can be read."""
    entry = LoaderEntry(
        path=looked.path,
        name=looked.path.name,
        task=looked.task,
        columns=looked.columns,
        options=looked.options,
    )
    good: list[Fields] = []
    bad: list[BadRow] = []
    told = False
    try:
        for row in islice(LOADERS[looked.format].rows(entry), LOOKED_AT):
            if isinstance(row, BadRow):
                bad.append(row)
                continue
            told = told or row.boxes is not None
            try:
                good.append(read_fields(row.fields))
            except ValueError as error:
                bad.append(BadRow(row.source, str(error)))
    except DataError as error:
        raise UsageError(f"--data {looked.path} as {looked.format}: {error}") from error
    if not good:
        first = f": {bad[0].source}: {bad[0].reason}" if bad else ""
        tables = sorted(each for each in looked.path.glob("*") if each.suffix.lower() in TABLES)
        instead = f"; or are the rows in {tables[0]}? Then --data {tables[0]}" if tables else ""
        raise UsageError(f"--data {looked.path} as {looked.format}: none of its rows can be read{first}{instead}")
    looked.fields, looked.bad, looked.told_boxes = good, bad, told


def find_pictures(looked: Looked, given: Path | None, choices: Choices) -> None:
    """Fills in ``image_root`` and ``image_prefix``. Raises UsageError where the pictures are not found."""
    paths = [image for each in looked.fields for image in each.images if isinstance(image, str)][:PICTURES]
    home = looked.path if looked.path.is_dir() else looked.path.parent
    if not paths:
        return
    if given is not None:
        looked.image_root = given
        choices.note("image_root", str(given), "--image-root says so")
        return
    if all(Path(path).is_absolute() for path in paths):
        shared = os.path.commonpath([os.path.dirname(path) for path in paths])
        if not any(os.path.isfile(path) for path in paths):
            raise UsageError(
                f"--data {looked.path}: its pictures are given as {paths[0]!r}, which is not here; give --image-root, "
                "the folder that stands for the common beginning of these paths"
            )
        looked.image_root, looked.image_prefix = Path(shared), shared
        choices.note("image_root", shared, "the pictures are given by absolute paths that begin so")
        return
    below = sorted(each for each in home.iterdir() if each.is_dir()) if home.is_dir() else []
    found = {root: sum((root / path).is_file() for path in paths) for root in (home, *below, home.parent)}
    root, count = max(found.items(), key=lambda each: each[1])
    if not count:
        raise UsageError(
            f"--data {looked.path}: its pictures ({paths[0]!r}, ...) are not under {home}, a folder in it, or "
            f"{home.parent}; give --image-root"
        )
    if root != home:
        looked.image_root = root
    others = [str(each) for each, number in found.items() if number and each != root]
    choices.note(
        "image_root",
        str(root),
        f"{count} of the first {len(paths)} pictures are there",
        f"{' or '.join(others)}, which has some too" if others else "",
    )


def find_task(looked: Looked, given: str | None, choices: Choices) -> None:
    """Fills in ``task``, unless every row names one. Raises UsageError where it cannot be told."""
    if given is not None:
        if given not in TASKS:
            raise UsageError(f"--task {given!r} is unknown; the tasks are {', '.join(TASKS)}")
        looked.task = choices.note("task", given, "--task says so")
        return
    named = Counter(each.task for each in looked.fields)
    if None not in named:
        counts = ", ".join(f"{count} {task}" for task, count in named.most_common())
        choices.note("task", "as the rows say", f"of the first {len(looked.fields)}: {counts}")
        return
    kinds = Counter(kind_of(each.answer) for each in looked.fields if each.task is None)
    example = next(each.answer for each in looked.fields if each.task is None)
    if len(kinds) > 1 and not set(kinds) <= {"detection", "dense_detection"}:
        counts = ", ".join(f"{count} look like {kind}" for kind, count in kinds.most_common())
        told = f"its answers are of several kinds ({counts}), which a column named task would tell apart"
        looked.task = choices.pick("--task", list(TASKS), "task", unclear=f"{looked.path.name}: {told}")
        choices.note("task", looked.task, "asked")
        return
    # Rows of one box and of several are all read as several.
    looked.task = "dense_detection" if "dense_detection" in kinds else next(iter(kinds))
    why, instead = {
        "detection": ("its answers are one box each", "dense_detection, where several are looked for"),
        "dense_detection": ("its answers are lists of boxes", "detection, for one box each"),
        "math": (f"its answers are numbers, or letters of options ({example!r})", "classification, for names"),
        "classification": (f"its answers are names ({example!r})", "math, for words that are compared as a whole"),
    }[looked.task]
    choices.note("task", looked.task, why, instead)


def kind_of(answer: Any) -> str:
    """The task that an answer looks like, one of four."""
    for task in ("detection", "dense_detection"):
        try:
            if boxes_of(TASKS[task].read_truth(answer)):
                return task
        except ValueError:
            continue
    text = str(answer).strip()
    if isinstance(answer, list):
        return "classification"
    if _NUMBER.fullmatch(text) or _LETTER.fullmatch(text) or "\\" in text or "=" in text or len(text) > LONGEST_NAME:
        return "math"
    return "classification"


def find_boxes(looked: Looked, given: str | None, choices: Choices) -> None:
    """Fills in ``boxes``: what the numbers of the file's boxes are. Raises UsageError."""
    boxes = [(box, each) for each in looked.fields for box in _boxes(each, looked.task)]
    if not boxes:
        return
    if looked.told_boxes:
        choices.note("boxes", "pixels", f"the format {looked.format} says what its boxes are given in")
        return
    if given is not None:
        looked.boxes = choices.note("boxes", given, "--boxes says so")
        return
    largest = max(max(box) for box, _ in boxes)
    if largest <= 1.0:
        looked.boxes = choices.note("boxes", "unit", f"no number of {len(boxes)} boxes is above 1", "pixels (--boxes)")
        return
    outside, inside, small = _against_pictures(looked, boxes)
    told = f"of {outside + inside} boxes whose picture was looked at, {inside} lie inside it as pixels"
    few = 0 < outside * FEW_OUTSIDE < inside  # mistakes of the annotators, or large pictures
    if outside and largest <= 1000 and not few:
        share = f"{told}, {outside} do not, and no number is above 1000"
        looked.boxes = choices.note("boxes", "thousand", share, "pixels (--boxes)")
    elif outside > inside or (few and largest <= 1000):
        looked.boxes = choices.pick(
            "--boxes",
            ("pixels", "thousand", "unit"),
            "what are boxes given in",
            unclear=f"{looked.path.name}: {told}, and numbers go up to {largest:g}",
        )
        choices.note("boxes", looked.boxes, "asked")
    else:
        doubt = "thousand (0-1000), as no number is above 1000 and no picture tells them apart" if small else ""
        looked.boxes = choices.note("boxes", "pixels", told, doubt and f"{doubt} (--boxes)")


def _boxes(fields: Fields, task: str | None) -> tuple[tuple[float, ...], ...]:
    name = fields.task or task
    if name not in ("detection", "dense_detection"):
        return ()
    try:
        return boxes_of(TASKS[name].read_truth(fields.answer))
    except ValueError:
        return ()


def _against_pictures(looked: Looked, boxes: Sequence[tuple[Any, Fields]]) -> tuple[int, int, bool]:
    """(boxes outside of their picture, boxes inside, whether 0-1000 would do for all of them as well)."""
    outside = inside = 0
    small = True
    for box, fields in boxes[:PICTURES]:
        size = _size(looked, fields)
        if size is None:
            continue
        if box[2] > size[0] + 1 or box[3] > size[1] + 1:
            outside += 1
        else:
            inside += 1
        small = small and max(box) <= 1000 and min(size) >= 1000
    return outside, inside, small and inside > 0


def _size(looked: Looked, fields: Fields) -> tuple[int, int] | None:
    """Of the first picture, from its header; None where it cannot be opened, which a check will say."""
    if not fields.images:
        return None
    image = fields.images[0]
    home = looked.path if looked.path.is_dir() else looked.path.parent
    try:
        if isinstance(image, StoredImage):
            return image.size
        relative = image.removeprefix(looked.image_prefix).lstrip("/") if looked.image_prefix else image
        return FileImage(looked.image_root or home, relative).size
    except DataError:
        return None


def entry_of(looked: Looked, folder: Path) -> dict[str, Any]:
    """The entry for a recipe in ``folder``, without what is the default anyway. Raises UsageError."""
    entry: dict[str, Any] = {"path": way_to(looked.path, folder), "format": looked.format}
    if looked.columns:
        entry["columns"] = dict(looked.columns)
    if looked.options:
        entry["options"] = dict(looked.options)
    if looked.task:
        entry["task"] = looked.task
    if looked.image_root is not None:
        entry["image_root"] = way_to(looked.image_root, folder)
    if looked.image_prefix:
        entry["image_prefix"] = looked.image_prefix
    if looked.boxes != "pixels":
        entry["boxes"] = looked.boxes
    FileEntry.model_validate(entry)
    return entry


def way_to(path: Path, folder: Path) -> str:
    """The path as a recipe in ``folder`` names it: relative where it lies below the folder's parent, else absolute."""
    relative = os.path.relpath(path.absolute(), folder.absolute())
    return str(path.absolute()) if relative.startswith("../..") else Path(relative).as_posix()
