"""Rows as ms-swift takes them: ``messages`` (or ``query`` and ``response``), ``images``, ``solution``, and ``objects``
for grounding, whose ``ref`` and ``bbox`` fill the ``<ref-object>`` and ``<bbox>`` of the messages in their order.

From its documentation, "Custom Dataset", sections PPO/GRPO, Multimodal and Grounding. ``bbox_type`` is ``real`` (pixels
of the image, the default) or ``norm1`` (0 to 1); ``image_id`` says which image a box belongs to. The truth is
``solution``, which ms-swift hands to reward functions, or else the answer of the conversation, or else the boxes of
``objects``, or else a key ``bbox`` or ``count`` beside the question.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from curr_reft.data.frame import FrameKind
from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.conversation import Exchange, Tags, exchange
from curr_reft.data.loaders.json_rows import converted_rows, images_of, reference_fields, refuse_other_media
from curr_reft.data.rows import Row, RowOrBad

_UNITS: dict[str, FrameKind] = {"real": "pixels", "norm1": "unit"}
_REF, _BOX = "<ref-object>", "<bbox>"
_ONLY_BOXES = re.compile(rf"(?:{_REF}|{_BOX}|[\s,;\[\]()]|</?answer>)*", re.IGNORECASE)


def claims(fields: dict[str, Any]) -> bool:
    return "messages" in fields or "query" in fields


def convert(row: Row, entry: LoaderEntry) -> Row:
    """Raises ValueError for several questions, for placeholders and objects that do not match, and for a box in a
    question, whose numbers no model would read in its own frame."""
    fields = row.fields
    refuse_other_media(fields)
    asked = _exchange(fields)
    truth = fields["solution"] if fields.get("solution") is not None else asked.answer
    objects = fields.get("objects") or {}
    boxes, unit = _boxes(objects)
    names = objects.get("ref") or []
    question = _named(asked.question, names)
    task = None
    if isinstance(truth, str) and _BOX in truth:
        truth = _true_boxes(truth, boxes)
    elif truth is None and boxes:
        if len(set(map(str, names))) > 1:
            raise ValueError(f"has boxes of {len(names)} objects and no answer that says which are asked for")
        truth, task = _boxes_as_truth(boxes)
    elif truth is None:
        truth, task = _truth_beside(fields)
    made = reference_fields(row, question, truth, images_of(fields))
    if task is not None and entry.task is None:
        made.setdefault("task", task)
    return replace(row, fields=made, boxes=unit)


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that cannot be read."""
    return converted_rows(entry, convert)


def _truth_beside(fields: dict[str, Any]) -> tuple[Any, str | None]:
    """The truth and its task where a row has neither answer nor solution: a key ``bbox`` or ``count``, as rows for
    reward functions that read these have them. Raises ValueError for both at once."""
    box, count = fields.get("bbox"), fields.get("count")
    if box is not None and count is not None:
        raise ValueError("has bbox and count, and may ask for either; put the truth into solution")
    if count is not None:
        return count, "math"
    if isinstance(box, list) and box and all(isinstance(each, list) for each in box):
        return _boxes_as_truth(box)
    return box, None if box is None else "detection"


def _boxes_as_truth(boxes: list[Any]) -> tuple[Any, str]:
    return (boxes[0], "detection") if len(boxes) == 1 else (boxes, "dense_detection")


def _exchange(fields: dict[str, Any]) -> Exchange:
    if fields.get("messages") is not None:
        return exchange(fields["messages"], Tags())
    if not isinstance(fields.get("query"), str):
        raise ValueError(f"has no messages and no query; keys found: {', '.join(sorted(fields)) or 'none'}")
    if fields.get("history"):
        raise ValueError("has a history of earlier questions; a row must be one question")
    return Exchange(fields["query"], fields.get("response"))


def _boxes(objects: Any) -> tuple[list[Any], FrameKind | None]:
    """The boxes of ``objects`` and their unit; no unit where there are none."""
    if not isinstance(objects, dict):
        raise ValueError("objects must hold ref and bbox")
    boxes, kind = objects.get("bbox") or [], objects.get("bbox_type") or "real"
    if not boxes:
        return [], None
    if kind not in _UNITS:
        raise ValueError(f"objects.bbox_type {kind!r} is not known; it is {' or '.join(_UNITS)}")
    if any(not isinstance(box, list) or len(box) != 4 for box in boxes):
        raise ValueError("objects.bbox must hold boxes of four numbers, x1 y1 x2 y2; points are no task of ours")
    if any(objects.get("image_id") or []):
        raise ValueError("objects.image_id names another image than the first; boxes are read in the first image only")
    return boxes, _UNITS[kind]


def _named(question: str, names: list[str]) -> str:
    """The question with its ``<ref-object>`` filled from the first names: placeholders count from the first message."""
    if _BOX in question:
        raise ValueError(
            f"the question holds {_BOX}: coordinates inside a question cannot be put in the frame a model answers in"
        )
    parts = question.split(_REF)
    if len(parts) - 1 > len(names):
        raise ValueError(f"the question holds {len(parts) - 1} {_REF}, and objects.ref has {len(names)} names")
    filled = [part + name for part, name in zip(parts, [*names[: len(parts) - 1], ""], strict=True)]
    return "".join(filled)


def _true_boxes(truth: str, boxes: list[Any]) -> Any:
    """The boxes that a truth of placeholders stands for: one as it is, several as a list."""
    if not _ONLY_BOXES.fullmatch(truth):
        raise ValueError(f"the answer mixes text and {_BOX}: {truth[:80]!r}; a truth is boxes only, or text only")
    count = truth.count(_BOX)
    if count != len(boxes):
        raise ValueError(f"the answer holds {count} {_BOX}, and objects.bbox has {len(boxes)} boxes")
    return boxes[0] if count == 1 else boxes
