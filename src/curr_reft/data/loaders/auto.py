"""The format of an entry that names none: told by folder, suffix and the keys of each row. Between two, it asks."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from curr_reft.data.loaders import (
    LOADERS,
    LoaderEntry,
    arrow,
    coco,
    cvat,
    imagefolder,
    label_studio,
    labelme,
    roboflow_csv,
    table,
    yolo,
)
from curr_reft.data.loaders.by_keys import convert
from curr_reft.data.loaders.json_elements import elements
from curr_reft.data.loaders.json_rows import converted_rows
from curr_reft.data.opening import data_suffix, open_data
from curr_reft.data.rows import RowOrBad
from curr_reft.errors import DataError

_KEYS = ("images", "annotations", "categories")  # of an instances file
_CAPTION = "caption"  # which pictures of MDETR's files have: expressions, not objects, are asked for


class UnclearFormatError(DataError):
    """The data may be good, but their format has to be named."""


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a layout that is not known, and for one that could be several."""
    name = layout(entry)
    if name and entry.columns and not LOADERS[name].columns:
        raise DataError(entry.name, f"columns: is in the format {name}, which fixes its column names; remove columns")
    return LOADERS[name].rows(entry) if name else converted_rows(entry, convert)


def layout(entry: LoaderEntry) -> str | None:
    """The format that folder or suffix tell; None for JSON rows, which are told by their keys. Raises DataError."""
    path, suffix = entry.path, data_suffix(entry.path)
    if path.is_dir():
        return _folder(entry)
    if suffix == ".parquet":
        return "parquet"
    if suffix == ".arrow":
        return "arrow"
    with open_data(path, entry.name):  # refuses what is no data whatever its name
        pass
    if suffix in table.SUFFIXES:
        return "roboflow_csv" if path.name == roboflow_csv.FILE else "table"
    if suffix == ".xml":
        if cvat.is_cvat(path):
            return "cvat"
        raise DataError(entry.name, "is the XML of one picture; give its folder, and all of them are read")
    if suffix in (".yaml", ".yml"):
        raise DataError(entry.name, "holds no rows; of a YOLO data set, give the folder")
    if suffix == ".json" and (name := _json(entry)):
        return name
    return "table" if entry.columns else None


def _json(entry: LoaderEntry) -> str | None:
    """The format of a JSON file that is no list of rows; None for one that may be. Raises DataError."""
    with open_data(entry.path, entry.name) as file:
        head = file.peek(4096).lstrip()
    if head[:1] == b"[":
        first = next(elements(entry.path, entry.name), None)
        return "label_studio" if first is not None and label_studio.is_label_studio(first.value) else None
    if head[:1] != b"{":
        return None
    if is_instances(entry.path, entry.name):
        return "coco"
    if labelme.is_labelme(entry.path):
        raise DataError(entry.name, "is the JSON file of one picture (labelme); give its folder, and all are read")
    if head[1:80].lstrip(b" \t\r")[:1] != b"\n":  # JSON lines, as far as anybody knows
        return None
    raise UnclearFormatError(
        entry.name, f"is one JSON object and no list of rows; name its format: {', '.join(LOADERS)}"
    )


def is_instances(path: Path, name: str) -> bool:
    """Whether a file holds the three lists of a COCO file, wherever they stand, and no expressions of MDETR's."""
    wanted = {f'"{key}"'.encode() for key in _KEYS}
    tail = b""
    with open_data(path, name) as file:
        if file.peek(4096).lstrip()[:1] != b"{":
            return False
        while wanted and (chunk := file.read(1 << 20)):
            text = tail + chunk
            wanted = {word for word in wanted if word not in text}
            tail = chunk[-32:]
    if wanted:
        return False
    first = next((each.value for each in elements(path, name) if each.key == _KEYS[0]), None)
    return not isinstance(first, dict) or _CAPTION not in first


def _folder(entry: LoaderEntry) -> str:
    """The format of a folder, by the files that only one tool writes. Raises DataError."""
    folder = entry.path
    if arrow.is_saved(folder):
        return "arrow"
    if _is_voc(folder):
        return "voc"
    if yolo.is_yolo(folder):
        return "yolo"
    if any(any(folder.glob(pattern)) for pattern in coco.FILES):
        return "coco"
    if (folder / roboflow_csv.FILE).is_file():
        return "roboflow_csv"
    if (folder / "annotations.xml").is_file() and cvat.is_cvat(folder / "annotations.xml"):
        return "cvat"
    for pattern in (f"*/{coco.FILES[0]}", f"*/{roboflow_csv.FILE}"):
        if inner := sorted(path.parent.name for path in folder.glob(pattern)):
            raise DataError(entry.name, f"holds the splits {', '.join(inner)}; name one: {folder.name}/{inner[0]}")
    inside = sorted(
        each.relative_to(folder).as_posix() for each in [*folder.glob("*"), *folder.glob("*/*")] if _is_voc(each)
    )
    if inside:
        raise DataError(entry.name, f"holds data in Pascal VOC's layout; give {folder.name}/{inside[0]}")
    if not any((folder / name).is_file() for name in imagefolder.METADATA):
        if next(folder.rglob("*.xml"), None) is not None:
            return "labelimg"
        if any(labelme.is_labelme(path) for path in islice(folder.rglob("*.json"), 3)):
            return "labelme"
    if (folder / "_classes.csv").is_file():
        raise DataError(
            entry.name,
            "holds _classes.csv, Roboflow's table of a column a class, which is not read; export folders of classes",
        )
    above = next((each for each in folder.parents[:2] if "images" in folder.relative_to(each).parts), None)
    if above is not None and yolo.is_yolo(above):
        reason = "holds the pictures of a YOLO data set; give the folder that holds its labels too"
        raise DataError(entry.name, f"{reason}: {above}")
    found = set()
    for path in folder.rglob("*"):
        if path.name in imagefolder.METADATA or path.suffix.lower() in imagefolder.SUFFIXES:
            found.add("imagefolder")
        elif path.suffix.lower() == ".parquet":
            found.add("parquet")
        if len(found) > 1:
            break
    if len(found) == 1:
        return found.pop()
    several = "may be imagefolder or parquet" if found else "is a folder of no format that can be told"
    formats = ", ".join(name for name in LOADERS if name != "auto")
    raise UnclearFormatError(entry.name, f"{several}; set format on the entry of the recipe: {formats}")


def _is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and (folder / "ImageSets").is_dir()
