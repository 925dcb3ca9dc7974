"""Labels that are files of a folder of pictures: found before the folders are taken for classes.

Most data sets are a folder with pictures in one place and labels in another (``labels.csv`` and ``images/``). One file
that is read here and names the pictures is used; anything else is named, with what to give instead.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from curr_reft.data.encodings import SAMPLE, likely_encoding
from curr_reft.data.images import StoredImage
from curr_reft.data.loaders import LoaderEntry, auto, imagefolder, parquet, table
from curr_reft.data.rows import Row
from curr_reft.errors import DataError, UsageError
from curr_reft.init.choices import Choices

READ = (*table.SUFFIXES, ".json", ".jsonl", ".parquet")
"""Suffixes of label files that are read here."""

NOT_READ = (".xlsx", ".xls", ".ods", ".mat", ".pkl", ".h5", ".hdf5", ".db", ".sqlite", ".arrow", ".tfrecord", ".ndjson")
"""Suffixes that hold labels whatever the file is called."""

BESIDE = (".xml", ".txt", ".json")
"""Suffixes of labels that are a file a picture, with its name."""

LOOKED_AT = 50  # rows of a file in which pictures are looked for
SHOWN = 4
_PICTURE = re.compile(r"[^\s\"'/\\,;|]+\.(?:png|jpe?g|gif|bmp|webp|tiff?)", re.IGNORECASE)


@dataclass(kw_only=True)
class Contents:
    """What a folder holds, as far as its file names and the beginnings of its files say."""

    pictures: set[str] = field(default_factory=set)  # file names
    readable: list[Path] = field(default_factory=list)  # label files in a format that is read here
    others: list[Path] = field(default_factory=list)  # of another format
    beside: dict[str, list[Path]] = field(default_factory=dict)  # suffix -> labels of one picture each

    @property
    def any(self) -> bool:
        return bool(self.readable or self.others or self.beside)


def find_rows(path: Path, given_format: str | None, choices: Choices) -> Path:
    """The file or folder with the rows of ``path``: the label file of a folder of pictures, the year's folder of Pascal
    VOC, else ``path``. Raises UsageError where several could be meant, or none is read here."""
    if given_format or not path.is_dir() or _is_voc(path):
        return path
    years = sorted(each.parent for each in _folders_named(path, "ImageSets") if _is_voc(each.parent))
    if len(years) == 1:
        choices.note("data", str(years[0]), "the folder in it that holds Annotations and ImageSets")
        return years[0]
    if years:
        listed = ", ".join(map(str, years))
        raise UsageError(
            f"--data {path} holds {len(years)} folders of Pascal VOC: {listed}; give one of them as --data"
        )
    try:
        name = auto.layout(LoaderEntry(path=path, name=path.name))
    except DataError:
        name = None
    if name not in (None, "imagefolder") or any((path / each).is_file() for each in imagefolder.METADATA):
        return path
    found = contents(path)
    if not found.any:
        return path
    if len(found.readable) == 1 and not found.others and not found.beside:
        folders = "--format imagefolder, where the folders of the pictures are their classes" if name else ""
        choices.note("data", str(found.readable[0]), "the one file in the folder that names its pictures", folders)
        return found.readable[0]
    raise UsageError(_several(path, found))


def contents(path: Path) -> Contents:
    """Look through a folder. Files that name no picture of the folder are no labels."""
    found, files = Contents(), []
    for parent, inner, names in os.walk(path):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            if Path(name).suffix.lower() in imagefolder.SUFFIXES:
                found.pictures.add(name)
            else:
                files.append(Path(parent, name))
    stems = {Path(name).stem for name in found.pictures}
    for file in files:
        suffix = file.suffix.lower()
        if suffix in BESIDE and file.stem in stems:
            found.beside.setdefault(suffix, []).append(file)
        elif suffix in NOT_READ and suffix not in READ:
            found.others.append(file)
        elif suffix in READ and (not found.pictures or _names_pictures(file, found.pictures, stems)):
            found.readable.append(file)
        elif (suffix in (".xml", ".txt") and _text_names_pictures(file, found.pictures)) or (
            suffix in (".yaml", ".yml") and re.search(r"(?m)^(?:names|nc|train)\s*:", _start(file))
        ):
            found.others.append(file)
    return found


def hint(path: Path) -> str:
    """Where the labels of a folder of pictures may be instead: in it, or beside it. Empty where none are found."""
    for folder in (path, path.parent):
        readable = contents(folder).readable if folder == path else _at_top(folder, path)
        if readable:
            return f"; or are the rows in {readable[0]}? Then --data {readable[0]}"
    return ""


def _at_top(folder: Path, pictures: Path) -> list[Path]:
    """The label files of ``folder`` itself that name pictures of a folder in it."""
    names = contents(pictures).pictures
    stems = {Path(name).stem for name in names}
    files = sorted(each for each in folder.iterdir() if each.suffix.lower() in READ and each.is_file())
    return [each for each in files if _names_pictures(each, names, stems)]


def _is_voc(path: Path) -> bool:
    return (path / "Annotations").is_dir() and (path / "ImageSets").is_dir()


def _folders_named(path: Path, name: str) -> Iterable[Path]:
    return (each for depth in ("*/", "*/*/", "*/*/*/") for each in path.glob(depth + name) if each.is_dir())


def _several(path: Path, found: Contents) -> str:
    """What is there, and what to give instead."""
    parts = [_listed(path, found.readable), _listed(path, found.others)]
    for suffix, files in found.beside.items():
        parts.append(f"{len(files)} {suffix} files with the names of pictures ({_listed(path, files)})")
    text = f"--data {path} holds labels beside its pictures: {', '.join(part for part in parts if part)}. "
    if found.readable:
        train = next((file for file in found.readable if "train" in str(file.relative_to(path)).lower()), None)
        test = next((file for file in found.readable if "test" in str(file.relative_to(path)).lower()), None)
        example = f"--data {train or found.readable[0]}" + (f" --test {test}" if test and test != train else "")
        text += f"Give the file with the rows to train on: {example}"
    else:
        text += (
            "They are in no layout that is read here (docs/datasets.md lists those that are; --format names one). "
            "Write them as a table with the columns image, label, or image, label, xmin, ymin, xmax, ymax, and give it "
            "as --data"
        )
    return text + ". Where folders name the classes of their pictures and the labels do not count: --format imagefolder"


def _listed(path: Path, files: list[Path]) -> str:
    shown = ", ".join(file.relative_to(path).as_posix() for file in files[:SHOWN])
    return shown + (f" and {len(files) - SHOWN} more" if len(files) > SHOWN else "")


def _names_pictures(file: Path, names: set[str], stems: set[str]) -> bool:
    """Whether the first rows of a file name pictures, by file name or without the suffix."""
    suffix = file.suffix.lower()
    entry = LoaderEntry(path=file, name=file.name)
    try:
        if suffix == ".parquet":
            stored = [row.fields for row in islice(parquet.stored_rows(entry), LOOKED_AT)]
        elif suffix in table.SUFFIXES:
            stored = [row.fields for row in islice(table.stored_rows(entry), LOOKED_AT) if isinstance(row, Row)]
        else:
            return _text_names_pictures(file, names)
    except (DataError, OSError):  # what is wrong with it is said once it is read
        return suffix == ".parquet" or _text_names_pictures(file, names) or not names
    columns = {key for row in stored for key in row}
    return any(_is_column_of_pictures([row.get(column) for row in stored], names, stems) for column in columns)


def _is_column_of_pictures(cells: list[Any], names: set[str], stems: set[str]) -> bool:
    """Whether most cells name a picture of the folder. Bare numbers may count something instead."""
    if any(isinstance(cell, StoredImage) for cell in cells):
        return True
    words = [_last(json.dumps(cell) if isinstance(cell, list | Mapping) else str(cell)) for cell in cells if cell]
    hits = {word for word in words if word in names}
    bare = {word for word in words if word in stems and not word.isdigit()}
    numbers = {word for word in words if word in stems and word.isdigit()}
    return 2 * len(hits | bare | (numbers if len(numbers) >= 10 else set())) > len(set(words))


def _last(cell: str) -> str:
    return re.split(r"[/\\]", cell.strip().strip("[]\"'"))[-1]


def _text_names_pictures(file: Path, names: set[str]) -> bool:
    return any(word in names for word in _PICTURE.findall(_start(file))) if names else False


def _start(file: Path) -> str:
    """The beginning of a text file; empty where it cannot be read."""
    try:
        with file.open("rb") as opened:
            data = opened.read(4 * SAMPLE)
    except OSError:
        return ""
    return data.decode(likely_encoding(data[:SAMPLE]), errors="replace")
