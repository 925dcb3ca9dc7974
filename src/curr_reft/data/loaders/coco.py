"""COCO instances (Lin et al. 2014, arXiv 1405.0312), and what is written in its layout, as labelling tools do: where is
the X, which categories are shown, where are all the X.

Asked is only what has one answer. Detection: a category of which exactly one object is annotated and no crowd.
Dense detection: all objects of a category without a crowd. Classification: every annotated category, crowds too.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.instances import Instances, Picture, Thing, read_instances
from curr_reft.data.loaders.published import MOST_DISTRACTORS, option, task_of, whole_number
from curr_reft.data.rows import Row, RowOrBad

LISTED = ("listed", "open")


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category or picture. Options: ``min_area``, ``categories``. Raises DataError."""
    task = task_of(entry, "detection", "classification", "dense_detection")
    smallest = whole_number(entry, "min_area", 0)
    listed = option(entry, "categories", LISTED, "listed") == "listed"
    found = read_instances(entry.path, entry.name)
    yield from found.bad
    for number, picture in found.pictures.items():
        if number in found.doubtful:
            continue
        if task == "classification":
            yield from shown_categories(found, number, f"{entry.name}:images[{picture.place}]", listed)
        else:
            yield from _located(found, number, picture, entry.name, task, smallest)


def _located(
    found: Instances, number: int, picture: Picture, name: str, task: str, smallest: int
) -> Iterator[RowOrBad]:
    things = found.things(number)
    by_category: dict[int, list[Thing]] = {}
    for thing in things:
        by_category.setdefault(thing.category, []).append(thing)
    for category, own in by_category.items():
        if any(thing.crowd or thing.area < smallest for thing in own):
            continue
        label = found.categories[category].name
        fields: dict[str, Any] = {"task": task, "image": picture.file_name, "image_size": list(picture.size)}
        # A file may be read for several tasks, and ids are unique over all of them: the source says what is asked.
        source = f"{name}:annotations[{own[0].place}]"
        if task == "dense_detection":
            source = f"{name}:images[{picture.place}].{label}"
            fields["problem"] = f"Where are all objects of the category {label} in the image?"
            fields["solution"] = [list(thing.box) for thing in own]
        elif len(own) == 1:
            fields["problem"] = f"Where is the {label} in the image?"
            fields["solution"] = list(own[0].box)
            fields["distractors"] = other_boxes([each for each in things if each is not own[0] and not each.crowd])
        else:
            continue
        yield Row(source, picture.line, fields, boxes="pixels")


def other_boxes(others: Sequence[Thing], category: int | None = None) -> list[list[float]]:
    """Boxes of other things as wrong answers: those of ``category`` first, as they are the ones to be mistaken for the
    right one, then the large ones."""
    ranked = sorted(others, key=lambda thing: (thing.category != category, -thing.area))
    return [list(thing.box) for thing in ranked[:MOST_DISTRACTORS]]


def shown_categories(found: Instances, picture: int, source: str, listed: bool) -> Iterator[RowOrBad]:
    """The categories in a picture, with absent ones of the same families as wrong answers; no row where none is."""
    shown = list(dict.fromkeys(thing.category for thing in found.things(picture)))
    if not shown:
        return
    names = [category.name for category in found.categories.values()]
    families = {found.categories[each].family for each in shown} - {""}
    absent = [
        category.name
        for number, category in found.categories.items()
        if number not in shown and category.family in families
    ]
    fields: dict[str, Any] = {
        "problem": which_categories(names if listed else []),
        "solution": [found.categories[each].name for each in shown],
        "task": "classification",
        "image": found.pictures[picture].file_name,
        "distractors": [[name] for name in absent],
    }
    yield Row(source, found.pictures[picture].line, fields)


def which_categories(names: Sequence[str]) -> str:
    """The question; a list says by which of its names a thing is to be called (tv, not television)."""
    if names:
        return f"Which of these categories are in the image: {', '.join(names)}?"
    return "Which categories of objects are in the image?"
