"""COCO instances (Lin et al. 2014, arXiv 1405.0312), and what is written in its layout, as labelling tools do: where is
the X, which categories are shown, where are all the X.

Asked is only what has one answer. Detection: a category of which exactly one object is annotated and no crowd.
Dense detection: all objects of a category without a crowd. Classification: every annotated category, crowds too.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from curr_reft.data.loaders import LoaderEntry, objects
from curr_reft.data.loaders.instances import Instances, Thing, read_instances
from curr_reft.data.loaders.objects import LISTED, AnnotatedPicture, PictureFiles
from curr_reft.data.loaders.published import MOST_DISTRACTORS, option, task_of, whole_number
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.errors import DataError

FILES = ("_annotations.coco.json", "result.json", "annotations/instances_*.json")
"""Instances files by the names that Roboflow, Label Studio and CVAT (and COCO) give them."""


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category or picture. Options: ``min_area``, ``categories``. Raises DataError."""
    task = task_of(entry, "detection", "classification", "dense_detection")
    smallest = whole_number(entry, "min_area", 0)
    listed = option(entry, "categories", LISTED, "listed") == "listed"
    path = instances_file(entry.path, entry.name) if entry.path.is_dir() else entry.path
    files = PictureFiles(entry.pictures) if entry.path.is_dir() else None
    name = entry.name if path == entry.path else f"{entry.name}/{path.relative_to(entry.path).as_posix()}"
    found = read_instances(path, name)
    yield from found.bad
    for number, picture in found.pictures.items():
        if number in found.doubtful:
            continue
        file = picture.file_name
        if files is not None:
            try:
                file = files.find(file)
            except ValueError as error:
                yield BadRow(f"{name}:images[{picture.place}]", str(error))
                continue
        if task == "classification":
            yield from shown_categories(found, number, f"{name}:images[{picture.place}]", listed, file)
        else:
            yield from _located(found, number, file, name, task, smallest)


def instances_file(folder: Path, name: str) -> Path:
    """The one instances file of a folder: Roboflow's beside the pictures, Label Studio's, CVAT's. Raises DataError."""
    found = [path for pattern in FILES for path in sorted(folder.glob(pattern))]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.relative_to(folder).as_posix() for path in found)
        raise DataError(name, f"holds {names}; give the one that is meant")
    inner = sorted(path.parent.name for path in folder.glob(f"*/{FILES[0]}"))
    if inner:
        raise DataError(name, f"holds the splits {', '.join(inner)}; name one: {folder.name}/{inner[0]}")
    raise DataError(name, f"is a folder without an instances file ({', '.join(FILES)}); give the JSON file")


def _located(found: Instances, number: int, file: str, name: str, task: str, smallest: int) -> Iterator[RowOrBad]:
    picture = found.pictures[number]
    things = [
        objects.Thing(
            name=found.categories[thing.category].name,
            box=thing.box,
            id=str(thing.place),
            area=thing.area,
            asked=thing.area >= smallest,
            crowd=thing.crowd,
        )
        for thing in found.things(number)
    ]

    def place(thing: objects.Thing) -> str:
        if task == "dense_detection":
            return f"{name}:images[{picture.place}].{thing.name}"
        return f"{name}:annotations[{thing.id}]"

    annotated = AnnotatedPicture(source=name, line=picture.line, image=file, size=picture.size, things=things)
    yield from objects.located(annotated, task, place)


def other_boxes(others: Sequence[Thing], category: int | None = None) -> list[list[float]]:
    """Boxes of other things as wrong answers: those of ``category`` first, as they are the ones to be mistaken for the
    right one, then the large ones."""
    ranked = sorted(others, key=lambda thing: (thing.category != category, -thing.area))
    return [list(thing.box) for thing in ranked[:MOST_DISTRACTORS]]


def shown_categories(
    found: Instances, picture: int, source: str, listed: bool, file: str | None = None
) -> Iterator[RowOrBad]:
    """The categories in a picture, with absent ones of the same families as wrong answers; no row where none is."""
    shown = list(dict.fromkeys(thing.category for thing in found.things(picture)))
    if not shown:
        return
    unused = found.unused_families
    names = [category.name for number, category in found.categories.items() if number not in unused]
    families = {found.categories[each].family for each in shown} - {""}
    absent = [
        category.name
        for number, category in found.categories.items()
        if number not in shown and number not in unused and category.family in families
    ]
    kept = found.pictures[picture]
    annotated = AnnotatedPicture(source=source, line=kept.line, image=file or kept.file_name)
    right = [found.categories[each].name for each in shown]
    yield objects.classes_row(annotated, right, names if listed else (), absent)
