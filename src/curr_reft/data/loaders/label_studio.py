"""Label Studio: its JSON export (tasks with ``annotations``) and JSON-MIN (a row an annotation).

Rectangles, polygons and ellipses become boxes; ``x``, ``y``, ``width`` and ``height`` are percentages of the picture,
whose size stands beside them. ``choices`` of a task are classes of its whole picture. Cancelled annotations and
predictions are not read. Pictures are named by addresses of the server: what is kept is the file's name for uploads,
the path after ``?d=`` for local files and the path after the host for others; they are found below ``image_root``, with
or without the eight letters that Label Studio puts before the name of an upload.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_elements import Element, elements
from curr_reft.data.loaders.objects import (
    SUFFIXES,
    AnnotatedPicture,
    PictureFiles,
    PictureOrBad,
    Thing,
    no_rotation,
    object_rows,
    outline,
)
from curr_reft.data.loaders.published import get, mapping, option
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.errors import DataError

_ASKED = ("one", "first", "last")
_BESIDE = frozenset(("textarea", "number", "rating", "datetime", "relation", "taxonomy", "pairwise", "ranker"))
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")
_SHAPES = ("rectanglelabels", "polygonlabels", "ellipselabels")


def is_label_studio(first: Any) -> bool:
    """Whether the first element of a JSON list is a task of an export."""
    if not isinstance(first, dict):
        return False
    if isinstance(first.get("annotations"), list) and isinstance(first.get("data"), dict):
        return True
    return {"id", "annotation_id", "annotator"} <= set(first)


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category or picture. Options: ``annotations``, ``image``, ``categories``. Raises DataError."""
    option(entry, "annotations", _ASKED, "one")
    return object_rows(entry, lambda: _read(entry))


def _read(entry: LoaderEntry) -> Iterator[PictureOrBad]:
    files = PictureFiles(entry.pictures)
    wanted = entry.options.get("annotations", "one")
    tasks: Counter[Any] = Counter()  # JSON-MIN has a row for each annotation of a task
    for element in elements(entry.path, entry.name):
        if element.index is None or element.key:
            raise DataError(entry.name, "must be a JSON list of tasks, as Label Studio's export JSON or JSON-MIN")
        if isinstance(element.value, dict) and "annotations" not in element.value:
            tasks[str(element.value.get("id"))] += 1
    met: Counter[str] = Counter()
    for element in elements(entry.path, entry.name):
        source = f"{entry.name}:{element.line}"
        if isinstance(element.value, dict) and element.value.get("id") is not None:
            source = f"{entry.name}:task {element.value['id']}"
        try:
            task = mapping(element.value)
            if "annotations" in task:
                results, data = _results(task, wanted), mapping(get(task, "data", dict))
            else:
                number = str(task.get("id"))
                met[number] += 1
                count = tasks[number]
                if count > 1 and wanted == "one":
                    raise ValueError(_several(count))
                if met[number] != (count if wanted == "last" else 1):
                    continue
                results, data = _smallest(task), task
            if results is None:
                continue
            yield _picture(results, data, source, element, entry, files)
        except ValueError as error:
            yield BadRow(source, str(error))


def _several(count: int) -> str:
    return (
        f"has {count} annotations; mark one as ground truth in Label Studio, or say which is meant: "
        "options.annotations, first or last"
    )


def _results(task: Mapping[str, Any], wanted: str) -> list[Any] | None:
    """What the one annotation of a task says; None for a task that nobody has annotated. Raises ValueError."""
    valid = [mapping(each) for each in get(task, "annotations", list)]
    valid = [each for each in valid if not each.get("was_cancelled")]
    truths = [each for each in valid if each.get("ground_truth")]
    if len(truths) == 1:
        valid = truths
    if not valid:
        return None
    if len(valid) > 1 and wanted == "one":
        raise ValueError(_several(len(valid)))
    return get(valid[-1 if wanted == "last" else 0], "result", list)


def _smallest(task: Mapping[str, Any]) -> list[Any]:
    """The regions of a row of JSON-MIN in the shape of the full export."""
    results: list[Any] = []
    for key, value in task.items():
        regions = value if isinstance(value, list) else []
        for region in regions:
            kind = (
                next((each for each in region if each.endswith("labels")), None) if isinstance(region, dict) else None
            )
            if kind is not None or (isinstance(region, dict) and "original_width" in region):
                results.append({**region, "type": kind or "rectangle", "value": region})
        choice = value.get("choices") if isinstance(value, dict) else None
        if choice is None and key in ("choice", "choices") and isinstance(value, str):
            choice = [value]
        if choice is not None:
            results.append({"type": "choices", "value": {"choices": choice}})
    return results


def _picture(
    results: list[Any], data: Mapping[str, Any], source: str, element: Element, entry: LoaderEntry, files: PictureFiles
) -> AnnotatedPicture:
    """Raises ValueError."""
    things: list[Thing] = []
    tags: list[str] = []
    size: tuple[int, int] | None = None
    for number, each in enumerate(results, start=1):
        result = mapping(each)
        kind, value = str(result.get("type")), mapping(result.get("value", {}))
        if kind in _BESIDE:
            continue
        if kind == "choices" and ("x" in value or "points" in value):  # of one region, not of the picture
            continue
        if kind == "choices":
            tags += [str(choice) for choice in get(value, "choices", list)]
            continue
        if kind not in _SHAPES:
            known = ", ".join((*_SHAPES, "choices"))
            raise ValueError(f"result {number} is of type {kind}, which is no box; read are {known}")
        if result.get("image_rotation"):
            raise ValueError(
                f"its picture was turned by {result['image_rotation']} degrees in Label Studio; turn the file"
            )
        shown = (get(result, "original_width", int), get(result, "original_height", int))
        if size not in (None, shown):
            raise ValueError(
                f"its regions are of pictures of two sizes, {size} and {shown}; a task must show one picture"
            )
        size = shown
        for name in get(value, kind, list):
            box = _box(kind, value, str(name), shown)
            things.append(Thing(name=str(name).strip(), box=box, area=(box[2] - box[0]) * (box[3] - box[1])))
        if not value[kind]:
            raise ValueError(f"result {number} ({kind}) has no label")
    image = files_of(_address(data, entry), files)
    return AnnotatedPicture(source=source, image=image, things=things, tags=tags, size=size, line=element.line)


def _box(kind: str, value: Mapping[str, Any], name: str, size: tuple[int, int]) -> list[float]:
    """In pixels. Raises ValueError."""
    no_rotation(value.get("rotation"), name)
    if kind == "polygonlabels":
        box = outline(get(value, "points", list))
    else:
        keys = ("x", "y", "radiusX", "radiusY") if kind == "ellipselabels" else ("x", "y", "width", "height")
        x, y, width, height = (_number(value, key) for key in keys)
        box = [x, y, x + width, y + height]
        if kind == "ellipselabels":
            box[:2] = [x - width, y - height]
    scale = (size[0] / 100, size[1] / 100) * 2
    return [side * by for side, by in zip(box, scale, strict=True)]


def _number(value: Mapping[str, Any], key: str) -> float:
    found = value.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ValueError(f"{key} must be a number, not {found!r}")
    return float(found)


def _address(data: Mapping[str, Any], entry: LoaderEntry) -> str:
    """The picture of a task as Label Studio names it. Raises ValueError."""
    key = entry.options.get("image")
    if key is not None:
        return get(data, key, str)
    named = {each: value for each, value in data.items() if isinstance(value, str) and _is_picture(value)}
    if len(named) != 1:
        raise ValueError(
            f"has {len(named)} pictures in its data ({', '.join(map(str, data))}); name the key of the one that is "
            "annotated: options.image"
        )
    return next(iter(named.values()))


def _is_picture(address: str) -> bool:
    return PurePosixPath(local_path(address)).suffix.lower() in SUFFIXES or address.startswith("data:image/")


def local_path(address: str) -> str:
    """The part of an address that names a file on disk."""
    parts = urlsplit(address.replace("\\", "/"))
    if "d" in (query := parse_qs(parts.query)):
        return query["d"][0]
    path = unquote(parts.path)
    if "/data/upload/" in f"/{path}":
        return PurePosixPath(path).name
    return path.lstrip("/") if parts.scheme else path


def files_of(address: str, files: PictureFiles) -> str:
    """The picture under the image root. Raises ValueError."""
    if address.startswith("data:"):
        return address
    path = local_path(address)
    found = files.find(path)
    bare = _UPLOAD.sub("", PurePosixPath(path).name, count=1)
    if not (files.root / found).is_file() and bare != PurePosixPath(path).name:
        original = files.find(bare)
        return original if (files.root / original).is_file() else path
    return found
