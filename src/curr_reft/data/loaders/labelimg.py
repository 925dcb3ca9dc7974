"""Files of Pascal VOC's XML beside the pictures or in a folder of their own, as labelImg and Roboflow write them.

Every XML file below the folder is one picture, named by ``filename`` or by the file's own name. Other than the data
sets of the challenge (``voc``), these tools count pixels from 0, so a box is taken as it is written. There are no lists
of splits: give the folder of one split.
"""

from collections.abc import Iterator

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.objects import AnnotatedPicture, PictureFiles, PictureOrBad, Thing, object_rows
from curr_reft.data.loaders.published import option
from curr_reft.data.loaders.voc import read_annotation
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.errors import DataError


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category or picture. Options: ``difficult``, ``categories``. Raises DataError."""
    if not entry.path.is_dir():
        raise DataError(entry.name, f"{entry.path} is not a folder; give the one that holds the XML files")
    keep = option(entry, "difficult", ("skip", "keep"), "skip") == "keep"
    return object_rows(entry, lambda: _read(entry, keep))


def _read(entry: LoaderEntry, keep: bool) -> Iterator[PictureOrBad]:
    files = PictureFiles(entry.pictures)
    paths = sorted(entry.path.rglob("*.xml"))
    if not paths:
        raise DataError(entry.name, "holds no XML file")
    for path in paths:
        inner = path.relative_to(entry.path)
        source = f"{entry.name}/{inner.as_posix()}"
        folder = inner.parent.as_posix() if entry.pictures == entry.path else ""
        try:
            annotation = read_annotation(path, first=0)
            things = [
                Thing(
                    name=thing.name,
                    box=thing.box,
                    area=(thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1]),
                    asked=keep or not thing.difficult,
                )
                for thing in annotation.things
            ]
            image = files.find(annotation.filename or path.stem, folder, path.stem)
            size = annotation.size if all(annotation.size) else None  # 0x0: a tool that did not open the picture
            yield AnnotatedPicture(source=source, image=image, things=things, size=size)
        except ValueError as error:
            yield BadRow(source, str(error))
