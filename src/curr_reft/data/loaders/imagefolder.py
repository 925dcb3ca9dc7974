"""A folder of pictures: a picture's folder names its class, or ``metadata.csv`` or ``metadata.jsonl`` says more.

The layout of ``datasets``' ImageFolder. With metadata, each row names its picture under ``file_name`` (several: a list
under ``file_names``), relative to the metadata file; its other columns are named by the recipe as for a table. Without,
a picture lies in the folder of its class; the question is the option ``question``, the task classification.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from curr_reft.data.loaders import LoaderEntry, parquet, table, table_objects
from curr_reft.data.loaders.json_rows import converted_rows
from curr_reft.data.rows import BadRow, Row, RowOrBad
from curr_reft.errors import DataError

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
QUESTION = "What is shown in the image?"
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
SPLITS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"))
NO_CLASSES = (
    SPLITS
    | frozenset(
        (
            "image",
            "images",
            "img",
            "imgs",
            "pic",
            "pics",
            "picture",
            "pictures",
            "photo",
            "photos",
            "jpegimages",
            "frames",
        )
    )
    | frozenset(("bilder", "fotos", "data", "raw", "files", "jpg", "jpeg", "png"))
)
"""Names of folders that say that pictures are in them, and not which."""
_OF_THE_SYSTEM = frozenset(("Thumbs.db", "desktop.ini"))  # beside names with a leading dot


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a path that is no folder, for two metadata files, and for a folder of splits."""
    if not entry.path.is_dir():
        raise DataError(entry.name, f"must be a folder of pictures ({entry.path})")
    metadata = [name for name in METADATA if (entry.path / name).is_file()]
    if len(metadata) > 1:
        raise DataError(entry.name, f"holds {' and '.join(metadata)}; keep one")
    if not metadata:
        return _class_rows(entry)
    inner = replace(entry, path=entry.path / metadata[0], name=f"{entry.name}/{metadata[0]}")
    if metadata[0].endswith(".jsonl") and not table_objects.asked(entry):
        return converted_rows(inner, _convert)
    inner = replace(inner, columns={"image": "file_name", **entry.columns})
    return parquet.rows(inner) if metadata[0].endswith(".parquet") else table.rows(inner)


def _convert(row: Row, entry: LoaderEntry) -> Row:
    """A row of JSON metadata, which may name one picture or several. Raises ValueError."""
    image = next((name for name in ("file_name", "file_names") if name in row.fields), "file_name")
    return table.convert(row, replace(entry, columns={"image": image, **entry.columns}))


def _class_rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    folders = sorted(each.name for each in os.scandir(entry.path) if each.is_dir() and not each.name.startswith("."))
    if folders and SPLITS.issuperset(folders):
        raise DataError(entry.name, f"holds the splits {', '.join(folders)}; name one: {entry.path.name}/{folders[0]}")
    classes = _folders_of_pictures(entry.path)
    if classes and {name.casefold() for name in classes} <= NO_CLASSES:
        raise DataError(
            entry.name,
            f"its pictures are in folders called {', '.join(sorted(classes))}, which name no classes; give the file "
            "with their labels, or put each picture into a folder of its class",
        )
    for parent, inner, files in os.walk(entry.path):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if name.startswith(".") or name in _OF_THE_SYSTEM:
                continue
            yield _class_row(Path(parent, name).relative_to(entry.path), entry)


def _folders_of_pictures(path: Path) -> set[str]:
    """The names of the folders below ``path`` that hold pictures."""
    found = set()
    for parent, inner, files in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if Path(parent) != path and any(Path(name).suffix.lower() in SUFFIXES for name in files):
            found.add(Path(parent).name)
    return found


def _class_row(path: Path, entry: LoaderEntry) -> RowOrBad:
    source = f"{entry.name}/{path.as_posix()}"
    if path.suffix.lower() not in SUFFIXES:
        return BadRow(source, f"is no picture ({', '.join(SUFFIXES)})")
    if len(path.parts) < 2:
        return BadRow(source, "lies in no folder of a class; move it, or describe the pictures in metadata.csv")
    question, task = entry.options.get("question", QUESTION), entry.task or "classification"
    fields = {"problem": question, "solution": [path.parent.name], "task": task, "image": path.as_posix()}
    return Row(source, 0, fields)
