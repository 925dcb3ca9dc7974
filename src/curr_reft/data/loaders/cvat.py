"""CVAT for images 1.1: one XML file with an ``image`` for each picture and the shapes in it.

Boxes (``xtl``, ``ytl``, ``xbr``, ``ybr``, pixels), polygons, polylines, ellipses and masks become boxes, ``tag``
elements are classes of the whole picture. CVAT for video is refused: it holds tracks over frames and no pictures.
CVAT's exports in the formats of COCO, YOLO and Pascal VOC are read by ``coco``, ``yolo`` and ``voc``.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.objects import (
    AnnotatedPicture,
    PictureFiles,
    PictureOrBad,
    Thing,
    no_rotation,
    object_rows,
    outline,
)
from curr_reft.data.loaders.published import refuse_entities, xml_number
from curr_reft.data.opening import open_data
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.errors import DataError

_BOXES = ("box", "mask", "polygon", "polyline", "ellipse")
_NO_BOXES = ("points", "cuboid", "skeleton")


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category or picture. Option: ``categories``. Raises DataError."""
    path = entry.path / "annotations.xml" if entry.path.is_dir() else entry.path
    name = f"{entry.name}/annotations.xml" if entry.path.is_dir() else entry.name
    labels = _labels(path, name)
    return object_rows(entry, lambda: _read(path, name, PictureFiles(entry.pictures)), labels)


def is_cvat(path: Path) -> bool:
    """Whether an XML file is an export of CVAT."""
    try:
        with open_data(path, path.name) as file:
            head = file.peek(4096)
    except DataError:
        return False
    return b"<annotations>" in head and b"<annotation>" not in head


def _labels(path: Path, name: str) -> list[str] | None:
    """The labels of the project; None where the file does not list them."""
    for element in _elements(path, name, "meta"):
        found = [(label.findtext("name") or "").strip() for label in element.iter("label")]
        return [each for each in found if each] or None
    return None


def _elements(path: Path, name: str, tag: str) -> Iterator[ElementTree.Element]:
    """The elements below the root with a tag, one at a time. Raises DataError."""
    try:
        with open_data(path, name) as file:
            refuse_entities(file)
        with open_data(path, name) as file:
            depth, root = 0, None
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                depth += 1 if event == "start" else -1
                if root is None:
                    root = element
                if element.tag == "track":
                    raise DataError(
                        name,
                        "is CVAT for video: it holds tracks and no pictures; export it again as CVAT for images 1.1 or "
                        "COCO, with images",
                    )
                if event == "end" and depth == 1:
                    if element.tag == tag:
                        yield element
                    root.clear()
    except ElementTree.ParseError as error:
        raise DataError(f"{name}:{error.position[0]}", f"not XML: {error}") from error
    except ValueError as error:
        raise DataError(name, str(error)) from error


def _read(path: Path, name: str, files: PictureFiles) -> Iterator[PictureOrBad]:
    met: Counter[str | None] = Counter()  # the export of a project counts the images of each of its tasks
    for element in _elements(path, name, "image"):
        number = element.get("id")
        met[number] += 1
        source = f"{name}:image {number}" + (f"#{met[number]}" if met[number] > 1 else "")
        try:
            yield _picture(element, source, files)
        except ValueError as error:
            yield BadRow(source, str(error))
    if not met:
        raise DataError(name, "holds no image; is it CVAT for images 1.1?")


def _picture(element: ElementTree.Element, source: str, files: PictureFiles) -> AnnotatedPicture:
    """Raises ValueError."""
    things, tags = [], []
    for shape in element:
        label = (shape.get("label") or "").strip()
        if shape.tag == "tag":
            tags.append(label)
        elif shape.tag in _NO_BOXES:
            raise ValueError(f"holds {shape.tag} of {label}, which are no box; read are {', '.join(_BOXES)} and tag")
        elif shape.tag in _BOXES:
            box = _box(shape, label)
            things.append(Thing(name=label, box=box, area=(box[2] - box[0]) * (box[3] - box[1])))
    image = (element.get("name") or "").strip()
    if not image:
        raise ValueError("has no name of a picture")
    size = (round(xml_number(element, "width")), round(xml_number(element, "height")))
    return AnnotatedPicture(source=source, image=files.find(image), things=things, tags=tags, size=size)


def _box(shape: ElementTree.Element, label: str) -> list[float]:
    """Raises ValueError."""
    no_rotation(shape.get("rotation"), label)
    if shape.tag == "box":
        return [xml_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr")]
    if shape.tag == "mask":
        left, top, width, height = (xml_number(shape, key) for key in ("left", "top", "width", "height"))
        return [left, top, left + width, top + height]
    if shape.tag == "ellipse":
        x, y, rx, ry = (xml_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        return [x - rx, y - ry, x + rx, y + ry]
    try:
        return outline([float(side) for side in pair.split(",")] for pair in (shape.get("points") or "").split(";"))
    except (ValueError, TypeError):
        raise ValueError(f"points of {label} must be x,y;x,y;..., not {(shape.get('points') or '')[:60]!r}") from None
