"""Referring expressions in MDETR's files (Kamath et al. 2021, arXiv 2104.12763; github.com/ashkamath/mdetr):
``finetune_refcoco_train.json``, one file a split.

It is an instances file in which every element of ``images`` is one expression: a ``caption``, the ``file_name`` of the
picture, and one annotation with its box. A picture therefore stands there many times under different ids.
"""

from collections.abc import Iterator

from curr_reft.data.item import Box
from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.instances import read_instances
from curr_reft.data.loaders.json_elements import elements
from curr_reft.data.loaders.published import MOST_DISTRACTORS, refuse_options, task_of
from curr_reft.data.loaders.refer import where_is
from curr_reft.data.rows import BadRow, Row, RowOrBad


def is_instances(entry: LoaderEntry) -> bool:
    """Whether a JSON file is an object, as files of instances are; a file of refs is a list. Raises DataError."""
    first = next(elements(entry.path, entry.name), None)
    return first is not None and first.key != ""


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row an expression; wrong answers are what other expressions of the picture describe. Raises DataError."""
    task_of(entry, "detection", default="detection")
    refuse_options(entry, "a file of this layout holds one split")
    found = read_instances(entry.path, entry.name)
    yield from found.bad
    shown: dict[str, dict[Box, None]] = {}  # picture -> the boxes described in it, each once
    for number, picture in found.pictures.items():
        shown.setdefault(picture.file_name, {}).update((thing.box, None) for thing in found.things(number))
    for number, picture in found.pictures.items():
        if number in found.doubtful:
            continue
        source = f"{entry.name}:images[{picture.place}]"
        things = found.things(number)
        if not picture.caption or len(things) != 1:
            reason = f"an expression needs a caption and one annotation; found {len(things)}"
            yield BadRow(source, reason if picture.caption else "has no caption")
            continue
        box = things[0].box
        fields = {
            "problem": where_is(picture.caption),
            "solution": list(box),
            "task": "detection",
            "image": picture.file_name,
            "image_size": list(picture.size),
            "distractors": [list(other) for other in shown[picture.file_name] if other != box][:MOST_DISTRACTORS],
        }
        yield Row(source, picture.line, fields, boxes="pixels")
