"""Pascal VOC (Everingham et al. 2010; host.robots.ox.ac.uk/pascal/VOC): which classes are shown, where is the X, where
are all the X.

Layout of ``VOCdevkit/VOC2007`` and of every other year: ``ImageSets/Main/SPLIT.txt`` names the pictures of a split,
``Annotations/NAME.xml`` holds their objects, ``JPEGImages/NAME.jpg`` is the picture. Boxes count pixels from 1 and hold
their last pixel, so ``xmin 1, xmax 500`` is the whole of a picture of 500 pixels; ours is ``[0, 500)``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from curr_reft.data.item import Box
from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.coco import LISTED, which_categories
from curr_reft.data.loaders.published import MOST_DISTRACTORS, option, require_folder, task_of
from curr_reft.data.rows import BadRow, Row, RowOrBad
from curr_reft.errors import DataError

# The classes by the groups that the challenge's own tables give.
FAMILIES = (
    ("person",),
    ("bird", "cat", "cow", "dog", "horse", "sheep"),
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor"),
)
SPOKEN = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}
"""Names that the files write in one word: a model writes two, and names are compared word by word."""

LARGEST = 1_000_000  # bytes of an annotation; the published ones have a few thousand


@dataclass(frozen=True)
class Thing:
    """One ``object`` of an annotation."""

    name: str
    box: Box
    difficult: bool  # the annotators found it hard to recognise; the challenge does not score it


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a picture or class. Options: ``split``, ``difficult``, ``categories``, ``classes``. Raises DataError."""
    task = task_of(entry, "classification", "detection", "dense_detection")
    require_folder(entry, "Annotations", "ImageSets/Main")
    split = option(entry, "split", sorted(path.stem for path in (entry.path / "ImageSets/Main").glob("*.txt")))
    keep = option(entry, "difficult", ("skip", "keep"), "skip") == "keep"
    listed = option(entry, "categories", LISTED, "listed") == "listed"
    families = _families(entry)
    for line, name in enumerate(_names(entry, split), start=1):
        source = f"{entry.name}/Annotations/{name}.xml"
        try:
            things, size = read_annotation(entry.path / "Annotations" / f"{name}.xml")
            _check_classes(things, families)
        except ValueError as error:
            yield BadRow(source, str(error))
            continue
        shown = {"task": task, "image": f"JPEGImages/{name}.jpg", "image_size": list(size)}
        if task == "classification":
            yield from _classes(things, keep, families, listed, shown, source, line)
        else:
            yield from _located(things, keep, shown, source, line)


def read_annotation(path: Path) -> tuple[list[Thing], tuple[int, int]]:
    """The objects of an annotation and the size of its picture. Raises ValueError.

    A file with a document type is refused before it is parsed: entities, which can grow without bound or read other
    files, are declared nowhere else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise ValueError(f"has {len(data)} bytes; an annotation has at most {LARGEST}")
    try:
        content = data.decode("utf-8-sig")
        if "<!DOCTYPE" in content or "<!ENTITY" in content:
            raise ValueError("declares a document type or entities, which are not read; remove the declaration")
        root = ElementTree.fromstring(content)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    size = (round(_number(root, "size/width")), round(_number(root, "size/height")))
    return [_thing(each) for each in root.findall("object")], size


def _thing(found: ElementTree.Element) -> Thing:
    name = (found.findtext("name") or "").strip()
    if not name:
        raise ValueError("an object has no name")
    # Only the object's own box: parts of a person (head, hand, foot) have boxes of their own further inside.
    x1, y1, x2, y2 = (_number(found, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    if x1 > x2 or y1 > y2:
        box = [x1, y1, x2, y2]
        raise ValueError(f"the box of {name}, {box}, is inverted: xmin <= xmax and ymin <= ymax are needed")
    return Thing(name, (x1 - 1, y1 - 1, x2, y2), (found.findtext("difficult") or "0").strip() == "1")


def _number(found: ElementTree.Element, path: str) -> float:
    written = found.findtext(path)
    try:
        value = float(written or "")
    except ValueError:
        raise ValueError(f"{path} must be a number, not {written!r}") from None
    if not math.isfinite(value):
        raise ValueError(f"{path} must be finite, not {written!r}")
    return value


def _names(entry: LoaderEntry, split: str) -> list[str]:
    """The pictures of a split. The lists of one class hold a second column and are no splits."""
    path = entry.path / "ImageSets" / "Main" / f"{split}.txt"
    names = path.read_text(encoding="utf-8").split("\n")
    for line, name in enumerate(names, start=1):
        if len(name.split()) > 1 or "/" in name or ".." in name:
            raise DataError(
                f"{entry.name}/ImageSets/Main/{split}.txt:{line}", f"{name!r} is no name of a picture; name a split"
            )
    return [name.strip() for name in names if name.strip()]


def _families(entry: LoaderEntry) -> tuple[tuple[str, ...], ...]:
    given = entry.options.get("classes")
    return FAMILIES if given is None else (tuple(name.strip() for name in given.split(",")),)


def _check_classes(things: list[Thing], families: tuple[tuple[str, ...], ...]) -> None:
    for thing in things:
        if not any(thing.name in family for family in families):
            raise ValueError(f"{thing.name!r} is no class of VOC; name your own in options.classes, between commas")


def _classes(
    things: list[Thing],
    keep: bool,
    families: tuple[tuple[str, ...], ...],
    listed: bool,
    shown: dict[str, Any],
    source: str,
    line: int,
) -> Iterator[RowOrBad]:
    """The classes of a picture; a class of which all objects are difficult is neither right nor wrong."""
    right = {thing.name for thing in things if keep or not thing.difficult}
    if not right or right != {thing.name for thing in things}:
        return
    near = [name for family in families if right.intersection(family) for name in family if name not in right]
    every = [_spoken(name) for family in families for name in family]
    fields = {
        **shown,
        "problem": which_categories(every if listed else []),
        "solution": [_spoken(name) for name in dict.fromkeys(thing.name for thing in things)],
        "distractors": [[_spoken(name)] for name in near],
    }
    yield Row(source, line, fields, boxes="pixels")


def _located(things: list[Thing], keep: bool, shown: dict[str, Any], source: str, line: int) -> Iterator[RowOrBad]:
    """A class with a difficult object is not asked: whether that one counts, the picture does not say."""
    for name in dict.fromkeys(thing.name for thing in things):
        own = [thing for thing in things if thing.name == name]
        if any(thing.difficult for thing in own) and not keep:
            continue
        fields, asked = dict(shown), name
        if shown["task"] == "dense_detection":
            asked = f"every {name}"  # ids are unique over the tasks a folder is read for
            fields["problem"] = f"Where are all objects of the category {_spoken(name)} in the image?"
            fields["solution"] = [list(thing.box) for thing in own]
        elif len(own) == 1:
            fields["problem"] = f"Where is the {_spoken(name)} in the image?"
            fields["solution"] = list(own[0].box)
            fields["distractors"] = [list(thing.box) for thing in things if thing is not own[0]][:MOST_DISTRACTORS]
        else:
            continue
        yield Row(f"{source}:{asked}", line, fields, boxes="pixels")


def _spoken(name: str) -> str:
    return SPOKEN.get(name, name)
