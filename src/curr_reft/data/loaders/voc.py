"""Pascal VOC (Everingham et al. 2010; host.robots.ox.ac.uk/pascal/VOC): which classes are shown, where is the X, where
are all the X.

Layout of ``VOCdevkit/VOC2007`` and of every other year: ``ImageSets/Main/SPLIT.txt`` names the pictures of a split,
``Annotations/NAME.xml`` holds their objects, ``JPEGImages/NAME.jpg`` is the picture. Boxes count pixels from 1 and hold
their last pixel, so ``xmin 1, xmax 500`` is the whole of a picture of 500 pixels; ours is ``[0, 500)``. CVAT writes
this layout with ``labelmap.txt`` and counts from 0.
"""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from curr_reft.data.item import Box
from curr_reft.data.loaders import LoaderEntry, objects
from curr_reft.data.loaders.objects import LISTED, SUFFIXES, AnnotatedPicture
from curr_reft.data.loaders.published import option, refuse_entities, require_folder, task_of
from curr_reft.data.opening import foreign
from curr_reft.data.rows import BadRow, RowOrBad
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

LABELS = "labelmap.txt"
"""The labels of a project of CVAT, ``name:colour:parts:actions``. Its boxes count pixels from 0."""

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
    first = 0 if (entry.path / LABELS).is_file() else 1
    for line, name in enumerate(_names(entry, split), start=1):
        source = f"{entry.name}/Annotations/{name}.xml"
        try:
            annotation = read_annotation(entry.path / "Annotations" / f"{name}.xml", first)
            _check_classes(annotation.things, families)
        except ValueError as error:
            yield BadRow(source, str(error))
            continue
        picture = AnnotatedPicture(
            source=source,
            line=line,
            image=_image(entry.path, name),
            size=annotation.size,
            things=[
                objects.Thing(name=_spoken(thing.name), box=thing.box, id=thing.name, asked=keep or not thing.difficult)
                for thing in annotation.things
            ],
        )
        if task == "classification":
            yield from _classes(annotation.things, keep, families, listed, picture)
        else:
            # A class with a difficult object is not asked: whether that one counts, the picture does not say.
            yield from objects.located(picture, task)


def _image(folder: Path, name: str) -> str:
    """The picture of a name: other data in this layout than the challenge's has pictures of other kinds."""
    names = [f"JPEGImages/{name}{suffix}" for suffix in (".jpg", *SUFFIXES)]
    return next((each for each in names if (folder / each).is_file()), names[0])


@dataclass(frozen=True)
class Annotation:
    """What one XML file says."""

    things: list[Thing]
    size: tuple[int, int]  # of the picture
    filename: str


def read_annotation(path: Path, first: int = 1) -> Annotation:
    """The objects of an annotation; ``first``: the number of the first pixel. Raises ValueError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise ValueError(f"has {len(data)} bytes; an annotation has at most {LARGEST}")
    if reason := foreign(data[:4096]):
        raise ValueError(reason)
    try:
        content = data.decode("utf-8-sig")
        refuse_entities(io.BytesIO(data))
        root = ElementTree.fromstring(content)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from error
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
    size = (round(_number(root, "size/width")), round(_number(root, "size/height")))
    things = [_thing(each, first) for each in root.findall("object")]
    return Annotation(things, size, (root.findtext("filename") or "").strip())


def _thing(found: ElementTree.Element, first: int) -> Thing:
    name = (found.findtext("name") or "").strip()
    if not name:
        raise ValueError("an object has no name")
    # Only the object's own box: parts of a person (head, hand, foot) have boxes of their own further inside.
    x1, y1, x2, y2 = (_number(found, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    if x1 > x2 or y1 > y2:
        box = [x1, y1, x2, y2]
        raise ValueError(f"the box of {name}, {box}, is inverted: xmin <= xmax and ymin <= ymax are needed")
    return Thing(name, (x1 - first, y1 - first, x2, y2), (found.findtext("difficult") or "0").strip() == "1")


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
    if given is not None:
        return (tuple(name.strip() for name in given.split(",")),)
    labels = entry.path / LABELS
    if labels.is_file():
        names = [line.split(":")[0].strip() for line in labels.read_text(encoding="utf-8-sig").splitlines()]
        return (tuple(name for name in names if name and not name.startswith("#") and name != "background"),)
    return FAMILIES


def _check_classes(things: list[Thing], families: tuple[tuple[str, ...], ...]) -> None:
    for thing in things:
        if not any(thing.name in family for family in families):
            raise ValueError(f"{thing.name!r} is no class of VOC; name your own in options.classes, between commas")


def _classes(
    things: list[Thing],
    keep: bool,
    families: tuple[tuple[str, ...], ...],
    listed: bool,
    picture: AnnotatedPicture,
) -> Iterator[RowOrBad]:
    """The classes of a picture; a class of which all objects are difficult is neither right nor wrong."""
    right = {thing.name for thing in things if keep or not thing.difficult}
    if not right or right != {thing.name for thing in things}:
        return
    near = [name for family in families if right.intersection(family) for name in family if name not in right]
    every = [_spoken(name) for family in families for name in family]
    spoken = [_spoken(name) for name in dict.fromkeys(thing.name for thing in things)]
    yield objects.classes_row(picture, spoken, every if listed else (), map(_spoken, near))


def _spoken(name: str) -> str:
    return SPOKEN.get(name, name)
