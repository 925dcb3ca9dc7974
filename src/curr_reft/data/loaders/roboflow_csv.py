"""A table with a row for each box: ``filename``, ``width``, ``height``, ``class``, ``xmin``, ``ymin``, ``xmax``,
``ymax``, pixels from 0. Roboflow writes it as ``_annotations.csv`` beside the pictures of each split, and TensorFlow's
tools as ``train_labels.csv``. All boxes of a picture are put together before anything is asked."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.objects import AnnotatedPicture, PictureFiles, PictureOrBad, Thing, object_rows
from curr_reft.data.opening import open_data
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.errors import DataError

FILE = "_annotations.csv"
COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")


@dataclass
class _Gathered:
    """The boxes of one picture."""

    line: int
    size: tuple[int, int]
    things: list[Thing] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category or picture. Option: ``categories``. Raises DataError."""
    folder = entry.path.is_dir()
    path, name = (entry.path / FILE, f"{entry.name}/{FILE}") if folder else (entry.path, entry.name)
    return object_rows(entry, lambda: _read(path, name, PictureFiles(entry.pictures)))


def _read(path: Path, name: str, files: PictureFiles) -> Iterator[PictureOrBad]:
    pictures: dict[str, _Gathered] = {}
    try:
        with open_data(path, name) as file:
            lines = (line.decode("utf-8") for line in file)
            reader = csv.DictReader(lines)
            header = [each.strip() for each in reader.fieldnames or ()]
            if missing := [column for column in COLUMNS if column not in header]:
                raise DataError(
                    f"{name}:1", f"has no column {missing[0]}; columns of this format: {', '.join(COLUMNS)}"
                )
            reader.fieldnames = header
            for fields in reader:
                line = reader.line_num
                gathered = pictures.setdefault((fields["filename"] or "").strip(), _Gathered(line, (0, 0)))
                try:
                    _add(gathered, fields)
                except ValueError as error:
                    gathered.bad.append(BadRow(f"{name}:{line}", str(error)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(name, f"is no CSV in UTF-8: {error}") from error
    for picture, gathered in pictures.items():
        if gathered.bad:
            yield from gathered.bad
            continue
        try:
            image = files.find(picture)
        except ValueError as error:
            yield BadRow(f"{name}:{gathered.line}", str(error))
            continue
        source = f"{name}:{gathered.line}"
        yield AnnotatedPicture(
            source=source, image=image, things=gathered.things, size=gathered.size, line=gathered.line
        )


def _add(gathered: _Gathered, fields: dict[str, str]) -> None:
    """Raises ValueError."""
    if not (fields["filename"] or "").strip():
        raise ValueError("filename is empty")
    numbers = {}
    for key in COLUMNS:
        if key not in ("filename", "class"):
            try:
                numbers[key] = float(fields[key] or "")
            except (TypeError, ValueError):
                raise ValueError(f"{key} must be a number, not {fields[key]!r}") from None
    size = (round(numbers["width"]), round(numbers["height"]))
    if gathered.things and gathered.size != size:
        raise ValueError(f"gives its picture the size {size}, and a row before {gathered.size}")
    gathered.size = size
    box = [numbers[key] for key in ("xmin", "ymin", "xmax", "ymax")]
    area = (box[2] - box[0]) * (box[3] - box[1])
    gathered.things.append(Thing(name=(fields["class"] or "").strip(), box=box, area=area))
