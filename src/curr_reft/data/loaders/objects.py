"""Pictures with boxes of named objects, as label tools export them, and what is asked of them.

A loader gives ``AnnotatedPicture`` records, one a picture; here they become questions. Asked is only what has one
answer. Detection: a category of which a picture shows exactly one object. Dense detection: all objects of a category.
Classification: all categories of a picture, or its own tags where the file has tags. A picture with an object that
cannot be read is a bad row: nobody can say what it shows one of.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from curr_reft.data.frame import FrameKind
from curr_reft.data.images import StoredImage
from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.published import MOST_DISTRACTORS, option, task_of
from curr_reft.data.rows import BadRow, Row, RowOrBad
from curr_reft.errors import DataError

TASKS = ("detection", "classification", "dense_detection")
LISTED = ("listed", "open")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
OUTSIDE_BY = {"pixels": 1.0, "unit": 0.005, "thousand": 5.0}  # what a box may reach over the edge by: rounding of tools
DEEPEST = 4  # folders below the image root in which pictures are looked for by name


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a picture. Objects with the same name are of one category."""

    name: str
    box: Sequence[float]  # x1, y1, x2, y2
    id: str = ""  # in the file, for the id of its question; empty: the name
    area: float = 0.0  # larger ones come first among wrong answers
    asked: bool = True  # False: its category is not asked for (too small, marked as difficult)
    crowd: bool = False  # the box holds many objects of the category, so it is no single one


@dataclass(frozen=True, kw_only=True)
class AnnotatedPicture:
    """One picture with everything that is annotated in it."""

    source: str  # the file, or the file and the id of the annotation, as messages name it
    image: str | StoredImage
    things: Sequence[Thing] = ()
    tags: Sequence[str] = ()  # classes of the picture as a whole
    size: tuple[int, int] | None = None  # width and height that the file states; the picture must have them
    unit: FrameKind = "pixels"  # of the boxes
    line: int = 0


PictureOrBad: TypeAlias = AnnotatedPicture | BadRow


def object_rows(
    entry: LoaderEntry, read: Callable[[], Iterable[PictureOrBad]], names: Sequence[str] | None = None
) -> Iterator[RowOrBad]:
    """The questions of the pictures that ``read`` gives, for the task of the entry. ``names`` are all categories; where
    the file does not list them, the pictures are read once more. Raises DataError where nothing can be asked."""
    task = task_of(entry, *TASKS)
    listed = option(entry, "categories", LISTED, "listed") == "listed"
    tagged = False
    if task == "classification":
        names, tagged = _all_names(read(), names)
    count = asked = 0
    for picture in read():
        if isinstance(picture, BadRow):
            asked += 1
            yield picture
            continue
        count += 1
        try:
            _check(picture)
        except ValueError as error:
            asked += 1
            yield BadRow(picture.source, str(error))
            continue
        rows: Iterable[Row] = located(picture, task)
        if task == "classification":
            right = list(dict.fromkeys(picture.tags if tagged else (thing.name for thing in picture.things)))
            absent = [name for name in names or () if name not in right]
            rows = [classes_row(picture, right, names if listed else (), absent)] if right else []
        for row in rows:
            asked += 1
            yield row
    if not asked:
        missing = {
            "detection": "shows exactly one object of a category",
            "dense_detection": "has a box",
            "classification": "has a category",
        }
        raise DataError(
            entry.name,
            f"{count} pictures are annotated, and none {missing[task]}, so nothing can be asked with task {task}; "
            f"set another task ({', '.join(other for other in TASKS if other != task)}), or is it the wrong folder?",
        )


def located(picture: AnnotatedPicture, task: str, place: Callable[[Thing], str] | None = None) -> Iterator[Row]:
    """A row for every category that can be asked for. ``place`` names it; ids are unique over the tasks a file is read
    for."""
    by_name: dict[str, list[Thing]] = {}
    for thing in picture.things:
        by_name.setdefault(thing.name, []).append(thing)
    for name, own in by_name.items():
        if any(thing.crowd or not thing.asked for thing in own):
            continue
        fields: dict[str, Any] = {"task": task, "image": picture.image}
        if picture.size is not None:
            fields["image_size"] = list(picture.size)
        if task == "dense_detection":
            source = f"{picture.source}:every {own[0].id or name}"
            fields["problem"] = f"Where are all objects of the category {name} in the image?"
            fields["solution"] = [list(thing.box) for thing in own]
        elif len(own) == 1:
            source = f"{picture.source}:{own[0].id or name}"
            others = [thing for thing in picture.things if not thing.crowd and list(thing.box) != list(own[0].box)]
            others.sort(key=lambda thing: -thing.area)
            fields["problem"] = f"Where is the {name} in the image?"
            fields["solution"] = list(own[0].box)
            fields["distractors"] = [list(thing.box) for thing in others[:MOST_DISTRACTORS]]
        else:
            continue
        yield Row(place(own[0]) if place else source, picture.line, fields, boxes=picture.unit)


def classes_row(
    picture: AnnotatedPicture, right: Sequence[str], names: Iterable[str] | None, absent: Iterable[str]
) -> Row:
    """Which of ``names`` (none: it lists no names) are shown; ``absent`` are wrong answers."""
    fields: dict[str, Any] = {
        "problem": which_categories(list(names or ())),
        "solution": list(right),
        "task": "classification",
        "image": picture.image,
        "distractors": [[name] for name in absent],
    }
    if picture.size is not None:
        fields["image_size"] = list(picture.size)
    return Row(picture.source, picture.line, fields, boxes=picture.unit)


def which_categories(names: Sequence[str]) -> str:
    """The question; a list says by which of its names a thing is to be called (tv, not television)."""
    if names:
        return f"Which of these categories are in the image: {', '.join(names)}?"
    return "Which categories of objects are in the image?"


def outline(points: Iterable[Sequence[float]]) -> list[float]:
    """The upright box around points. Raises ValueError for less than two, and for what is no point."""
    pairs = []
    for point in points:
        try:
            x, y = map(float, point)
        except (TypeError, ValueError):
            raise ValueError(f"points must be pairs of numbers, not {str(point)[:60]}") from None
        pairs.append((x, y))
    if not all(math.isfinite(side) for pair in pairs for side in pair):
        raise ValueError("points must be finite numbers")
    if len(pairs) < 2:
        raise ValueError(f"has {len(pairs)} points; a box needs two")
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    return [min(xs), min(ys), max(xs), max(ys)]


def no_rotation(value: Any, name: str) -> None:
    """Raises ValueError for a rotated rectangle: the upright box around it is larger than the object."""
    try:
        degrees = float(value or 0)
    except (TypeError, ValueError):
        raise ValueError(f"rotation of {name} must be a number, not {value!r}") from None
    if degrees % 360 != 0:
        raise ValueError(f"the box of {name} is rotated by {degrees:g} degrees; boxes are upright: draw it again so")


def _check(picture: AnnotatedPicture) -> None:
    """Raises ValueError for an object without a name or with a box that is no box of this picture."""
    width, height = {"pixels": picture.size or (float("inf"),) * 2, "unit": (1, 1), "thousand": (1000, 1000)}[
        picture.unit
    ]
    over = OUTSIDE_BY[picture.unit]
    for thing in picture.things:
        x1, y1, x2, y2 = thing.box
        shown = [round(side, 4) for side in thing.box]
        if not thing.name:
            raise ValueError(f"the object with the box {shown} has no name")
        if not (x1 < x2 and y1 < y2):
            raise ValueError(f"the box of {thing.name}, {shown}, is empty or inverted")
        if min(x1, y1) < -over or x2 > width + over or y2 > height + over:
            raise ValueError(f"the box of {thing.name}, {shown}, lies outside its picture of {width:g}x{height:g}")


def _all_names(pictures: Iterable[PictureOrBad], names: Sequence[str] | None) -> tuple[list[str], bool]:
    """All categories of the pictures, and whether they are tags. Tags, where there are any, are the only classes."""
    tags: set[str] = set()
    found: set[str] = set()
    for picture in pictures:
        if isinstance(picture, AnnotatedPicture):
            tags.update(picture.tags)
            found.update(thing.name for thing in picture.things)
    if tags:
        return sorted(tags), True
    return (sorted(found) if names is None else list(names)), False


class PictureFiles:
    """The pictures under an image root, found by the names that annotations give them.

    Label tools write the name a picture had on the machine of the annotator, so a name is looked for where it says,
    beside the annotation, and last anywhere below the root. A name that could be two pictures is refused.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_stem: dict[str, list[str]] | None = None

    def find(self, name: str, folder: str = "", stem: str = "") -> str:
        """The path under the root of the picture ``name``, which an annotation in ``folder`` (under the root) calls so;
        ``stem``: of the annotation's own file, which a picture beside it shares. A picture that is not found keeps its
        name, for the message of its row. Raises ValueError where it could be two pictures."""
        name = name.replace("\\", "/")
        named = self._at(folder, name) or self._at("", name) or self._at(folder, PurePosixPath(name).name)
        beside = next((found for each in SUFFIXES if (found := self._at(folder, stem + each))), None) if stem else None
        if named and beside and named != beside:
            raise ValueError(
                f"names the picture {name}, and {beside} lies beside it; which one is meant? Remove or rename one"
            )
        return named or beside or self._anywhere(name) or (self._anywhere(stem) if stem else None) or name

    def _at(self, folder: str, name: str) -> str | None:
        path = os.path.normpath(os.path.join(folder, name))
        if path.startswith(("..", "/")) or not (self.root / path).is_file():
            return None
        return PurePosixPath(path).as_posix()

    def _anywhere(self, name: str) -> str | None:
        if self._by_stem is None:
            self._by_stem = {}
            for parent, folders, files in os.walk(self.root):
                inner = Path(parent).relative_to(self.root)
                folders[:] = sorted(each for each in folders if not each.startswith(".") and len(inner.parts) < DEEPEST)
                for each in sorted(files):
                    if each.lower().endswith(SUFFIXES):
                        self._by_stem.setdefault(PurePosixPath(each).stem, []).append((inner / each).as_posix())
        path = PurePosixPath(name)
        found = self._by_stem.get(path.stem if path.suffix.lower() in SUFFIXES else path.name, [])
        if path.suffix.lower() in SUFFIXES:
            found = [each for each in found if PurePosixPath(each).name == path.name]
        if len(found) > 1:
            raise ValueError(
                f"the picture {path.name} may be {' or '.join(found[:3])}; set image_root to the folder meant"
            )
        return found[0] if found else None
