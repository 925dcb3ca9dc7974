"""labelme: a JSON file of shapes for each picture, beside it or in a folder of their own.

``shapes`` hold ``label``, ``points`` and ``shape_type``; the upright box around a rectangle, polygon, circle or mask is
its object's. Shapes of one ``group_id`` and label are parts of one object. ``flags`` that are true are classes of the
whole picture. ``imagePath`` is relative to the JSON file; the picture inside it (``imageData``) is not read.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.objects import (
    AnnotatedPicture,
    PictureFiles,
    PictureOrBad,
    Thing,
    object_rows,
    outline,
)
from curr_reft.data.loaders.published import get, mapping, read_object, text
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.errors import DataError

_TWO_POINTS = ("rectangle", "mask")
_SHAPES = (*_TWO_POINTS, "polygon", "circle")


def is_labelme(path: Path) -> bool:
    """Whether a JSON file is one of labelme's. Its keys may stand behind a picture of megabytes."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" and b'"shapes"' in data and b'"imagePath"' in data


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category or picture. Option: ``categories``. Raises DataError."""
    if not entry.path.is_dir():
        raise DataError(entry.name, f"{entry.path} is not a folder; give the one that holds the JSON files of labelme")
    return object_rows(entry, lambda: _read(entry))


def _read(entry: LoaderEntry) -> Iterator[PictureOrBad]:
    files = PictureFiles(entry.pictures)
    paths = sorted(entry.path.rglob("*.json"))
    if not paths:
        raise DataError(entry.name, "holds no JSON file")
    for path in paths:
        inner = path.relative_to(entry.path)
        source = f"{entry.name}/{inner.as_posix()}"
        folder = inner.parent.as_posix() if entry.pictures == entry.path else ""
        try:
            yield _picture(read_object(path, "the file"), source, files, folder, path.stem)
        except ValueError as error:
            yield BadRow(source, str(error))


def _picture(content: Mapping[str, Any], source: str, files: PictureFiles, folder: str, stem: str) -> AnnotatedPicture:
    """Raises ValueError."""
    parts: dict[tuple[str, Any], list[list[float]]] = {}
    for number, each in enumerate(get(content, "shapes", list), start=1):
        shape = mapping(each)
        try:
            label, group = text(shape, "label"), shape.get("group_id")
            box = _box(shape)
        except ValueError as error:
            raise ValueError(f"shape {number}: {error}") from error
        parts.setdefault((label, number if group is None else ("group", group)), []).append(box)
    things = []
    for (label, _), boxes in parts.items():
        box = outline(point for each in boxes for point in (each[:2], each[2:]))
        things.append(Thing(name=label, box=box, area=(box[2] - box[0]) * (box[3] - box[1])))
    sides = (content.get("imageWidth"), content.get("imageHeight"))
    size = (int(sides[0]), int(sides[1])) if all(type(side) is int for side in sides) else None  # type: ignore[arg-type]
    flags = content.get("flags") or {}
    tags = [name for name, chosen in flags.items() if chosen is True] if isinstance(flags, dict) else []
    image = files.find(text(content, "imagePath"), folder, stem)
    return AnnotatedPicture(source=source, image=image, things=things, tags=tags, size=size)


def _box(shape: Mapping[str, Any]) -> list[float]:
    """Raises ValueError."""
    kind, points = shape.get("shape_type") or "polygon", get(shape, "points", list)
    if kind not in _SHAPES:
        raise ValueError(f"shape_type {kind!r} is no box; read are {', '.join(_SHAPES)}; remove it or draw it again")
    box = outline(points)
    if kind == "circle":
        if len(points) != 2:
            raise ValueError(f"a circle has two points, its centre and one of its edge, not {len(points)}")
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return [x - radius, y - radius, x + radius, y + radius]
    return box
