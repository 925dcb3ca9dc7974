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
from curr_reft.data.frame import BOX_TASKS, BoxFormat, RawBox, boxes_of, corners, raw_boxes
from curr_reft.data.images import FileImage, StoredImage
from curr_reft.data.loaders import LOADERS, LoaderEntry, table_objects
from curr_reft.data.rows import BadRow
from curr_reft.data.styles import Fields, read_fields
from curr_reft.errors import DataError, UsageError
from curr_reft.init import labels
from curr_reft.init.choices import Choices, as_flags
from curr_reft.tasks import TASKS

LOOKED_AT = 1000  # rows that are read
PICTURES = 200  # of them, whose pictures are looked for

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
OBJECTS = (
    "detection",
    "each row is one object with its box; asked is where the one object of a category is",
    "dense_detection (where all are), classification (which categories are shown) (--task)",
)
"""The same for a table with one object a row."""

FORMATS: Mapping[BoxFormat, str] = {
    "xyxy": "two corners",
    "xywh": "x, y, width, height",
    "cxcywh": "centre, width, height",
}

LONGEST_NAME = 60  # characters of a category's name
UNIT_EDGE = 0.01  # that a box from 0 to 1 may be over the edge, by rounding
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
    box_format: BoxFormat = "xyxy"
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
        instead = labels.hint(looked.path) if looked.format == "imagefolder" else ""
        raise UsageError(f"--data {looked.path} as {looked.format}: {as_flags(str(error))}{instead}") from error
    if not good:
        first = f": {bad[0].source}: {as_flags(bad[0].reason)}" if bad else ""
        if not bad and table_objects.asked(entry) and looked.task == "detection":
            first = ": no category has exactly one object in a picture; give --task dense_detection"
        instead = labels.hint(looked.path) if looked.format == "imagefolder" else ""
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
            + ("" if Path(paths[0]).suffix else ". They have no suffix: write the names of the files in full, as a.jpg")
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
    """Fills in ``task``, unless every row names one. Raises UsageError if it cannot be inferred."""
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
    found = raw_boxes(answer)  # whatever the format: as corners, most of another one are no boxes
    if found is not None:
        return "dense_detection" if len(found[0]) > 1 else "detection"
    for task in BOX_TASKS:
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


def find_boxes(looked: Looked, given: str | None, given_format: BoxFormat | None, choices: Choices) -> None:
    """Fills in ``boxes`` and ``box_format``: what the numbers of the file's boxes are. Raises UsageError."""
    if looked.told_boxes:
        if given_format is not None:
            raise UsageError(f"--box-format: the format {looked.format} says what its boxes are; leave the flag out")
        if any((fields.task or looked.task) in BOX_TASKS for fields in looked.fields):
            choices.note("boxes", "pixels", f"the format {looked.format} says what its boxes are given in")
        return
    raw = [(box, named, fields) for fields in looked.fields for box, named in _raw(fields, looked.task)]
    if not raw:
        if given_format is not None:
            raise UsageError("--box-format: no answer of these rows is a box of four numbers; leave the flag out")
        return
    looked.box_format = _find_box_format(looked, raw, given_format, choices)
    boxes = [(box, fields) for numbers, _, fields in raw if _is_box(box := corners(numbers, looked.box_format))]
    if given is not None:
        looked.boxes = choices.note("boxes", given, "--boxes says so")
        return
    largest = max((max(box) for box, _ in boxes), default=0.0)
    if largest <= 1.0 + UNIT_EDGE:
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


def _raw(fields: Fields, task: str | None) -> list[tuple[RawBox, BoxFormat | None]]:
    """The boxes of a row as it writes them, and the format that the names of the numbers say."""
    if (fields.task or task) not in BOX_TASKS:
        return []
    found = raw_boxes(fields.answer)
    if found is not None:
        return [(box, found[1]) for box in found[0]]
    try:
        read = boxes_of(TASKS[fields.task or task or ""].read_truth(fields.answer))
    except ValueError:
        return []
    return [(box, None) for box in read]


def _is_box(box: RawBox) -> bool:
    return box[0] < box[2] and box[1] < box[3]


def _find_box_format(
    looked: Looked,
    raw: Sequence[tuple[RawBox, BoxFormat | None, Fields]],
    given: BoxFormat | None,
    choices: Choices,
) -> BoxFormat:
    """The format in which most boxes have an area and are inside their picture; what names say first, then corners."""
    if given is not None:
        choices.note("box_format", given, "--box-format says so")
        return given
    unit = max(max(box) for box, _, _ in raw) <= 1.0
    sizes: dict[int, tuple[float, float] | None] = {}
    seen = raw[:PICTURES]
    for _, _, fields in seen:
        if id(fields) not in sizes:
            sizes[id(fields)] = (1.0, 1.0) if unit else _size(looked, fields)

    def count(box_format: BoxFormat, thousand: bool = False) -> int:
        total = 0
        for box, _, fields in seen:
            size = (1000.0, 1000.0) if thousand else sizes[id(fields)]
            total += _lies_inside(corners(box, box_format), size, UNIT_EDGE if unit else 1.0)
        return total

    fits = {box_format: count(box_format) for box_format in FORMATS}
    if 2 * max(fits.values()) < len(seen) and not unit and all(max(box) <= 1000 for box, _, _ in seen):
        fits = {box_format: count(box_format, thousand=True) for box_format in FORMATS}
    named = next((name for _, name, _ in raw if name is not None), None)
    best = max(FORMATS, key=fits.__getitem__)
    chosen = named if named is not None and 10 * fits[named] >= 9 * fits[best] else best
    have_areas = sum(_is_box(box) for box, _, _ in seen)
    if 2 * fits[chosen] < len(seen):
        if 10 * have_areas >= 9 * len(seen):
            return "xyxy"  # they leave their pictures, which is a question of the unit
        counts = ", ".join(f"{number} as {name} ({FORMATS[name]})" for name, number in fits.items())
        unclear = f"{looked.path.name}: of {len(seen)} boxes have an area inside their picture: {counts}"
        picked = choices.pick("--box-format", list(FORMATS), "what are the four numbers of a box", unclear=unclear)
        choices.note("box_format", picked, "asked")
        return next(name for name in FORMATS if name == picked)
    why = f"of {len(seen)} boxes {fits[chosen]} have an area and lie inside their picture as {FORMATS[chosen]}"
    if chosen != "xyxy":
        why += f", and {fits['xyxy']} as two corners"
    if named is not None:
        columns = looked.columns.get("answer") or "the numbers"
        why = f"the names of {columns} say {FORMATS[named]}; {why}"
    rivals = [name for name in FORMATS if name != chosen and 50 * fits[name] >= 49 * fits[chosen]]
    doubt = ""
    if rivals and named != "xyxy":
        others = " or ".join(f"{name} ({FORMATS[name]})" for name in rivals)
        doubt = f"{others} fits them as well: look at the boxes with curr-reft data show (--box-format)"
    choices.note("box_format", chosen, why, doubt)
    return chosen


def _lies_inside(box: RawBox, size: tuple[float, float] | None, edge: float) -> bool:
    if not _is_box(box):
        return False
    return size is None or (min(box[:2]) >= -edge and box[2] <= size[0] + edge and box[3] <= size[1] + edge)


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
    if looked.box_format != "xyxy":
        entry["box_format"] = looked.box_format
    FileEntry.model_validate(entry)
    return entry


def way_to(path: Path, folder: Path) -> str:
    """The path as a recipe in ``folder`` names it: relative where it lies below the folder's parent, else absolute."""
    relative = os.path.relpath(path.absolute(), folder.absolute())
    return str(path.absolute()) if relative.startswith("../..") else Path(relative).as_posix()
