"""Boxes as numbers and as text: IoU, rounding, reading the boxes of an answer. Half-open float boxes throughout.

Answers are read as JSON, with single quotes, code fences and words around it forgiven; nothing is ever evaluated.
"""

import json
import math
import re
from typing import Any

from curr_reft.data.item import Box

BOX_KEYS = frozenset({"bbox_2d", "bbox", "box"})
LONGEST_ANSWER = 4000  # characters; a box needs fewer than 100
LARGEST_COORDINATE = 1e7  # keeps areas finite and exact enough

_FENCE = re.compile(r"```[a-zA-Z]*\s*(.*?)\s*```", re.DOTALL)


def is_valid(box: Box) -> bool:
    """Finite, of positive width and height."""
    return all(math.isfinite(value) and abs(value) <= LARGEST_COORDINATE for value in box) and (
        box[0] < box[2] and box[1] < box[3]
    )


def area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def iou(first: Box, second: Box) -> float:
    """Intersection over union of half-open float boxes, in [0, 1]; 0 when either is not valid.

    The reference code counts integer pixels with both ends included; this is the area of the rectangles.
    """
    if not (is_valid(first) and is_valid(second)):
        return 0.0
    overlap: Box = (
        max(first[0], second[0]),
        max(first[1], second[1]),
        min(first[2], second[2]),
        min(first[3], second[3]),
    )
    if not is_valid(overlap):
        return 0.0
    shared = area(overlap)
    union = area(first) + area(second) - shared
    return min(1.0, shared / union) if union > 0.0 else 0.0


def write_box(box: Box) -> str:
    """``[14,28,42,56]``: compact JSON, integers without ``.0``."""
    return "[" + ",".join(str(int(value)) if float(value).is_integer() else repr(float(value)) for value in box) + "]"


def round_box(box: Box, bounds: Box) -> Box:
    """To what a model writes: whole numbers, or three decimals where the frame is 0 to 1; kept inside ``bounds``."""
    digits = 3 if bounds[2] <= 2 and bounds[3] <= 2 else 0
    x1, y1, x2, y2 = (round(float(value), digits) for value in box)
    low_x, low_y, high_x, high_y = bounds
    return (max(x1, low_x), max(y1, low_y), min(x2, high_x), min(y2, high_y))


def read_boxes(answer: str) -> list[Box] | None:
    """All boxes (four finite numbers, in any order of size) of the one JSON value in the text; None if there is none.

    Pairs of equal keys are all kept, so that ``{"bbox": first, "bbox": second}`` counts as two boxes.
    """
    text = answer.strip()
    if not text or len(text) > LONGEST_ANSWER:
        return None
    fence = _FENCE.fullmatch(text)
    if fence:
        text = fence.group(1)
    value = _read_json(text)
    if value is None:
        return None
    found: list[Box] = []
    return found if _collect(value, found) and found else None


def read_box(answer: str) -> Box | None:
    """The one valid box of an answer; None when there is none, more than one, or it is empty or inverted."""
    boxes = read_boxes(answer)
    if boxes is None or len(boxes) != 1 or not is_valid(boxes[0]):
        return None
    return boxes[0]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its equal keys kept."""


_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs)


def _read_json(text: str) -> Any | None:
    """The single JSON list or object of the text, words around it ignored."""
    if '"' not in text:
        text = text.replace("'", '"')
    starts = [position for position in (text.find("["), text.find("{")) if position >= 0]
    if not starts:
        return None
    try:
        value, end = _DECODER.raw_decode(text, min(starts))
    except (ValueError, RecursionError):  # not JSON, or nested to exhaust the parser: an answer without a box
        return None
    rest = text[end:]
    return None if any(mark in rest for mark in "[]{}") else value


def _collect(value: Any, found: list[Box]) -> bool:
    """Adds the boxes of a JSON value; False when a list of numbers is no box or stands under an unknown key."""
    if isinstance(value, _Pairs):
        for key, inner in value:
            if isinstance(inner, _Pairs | list):
                before = len(found)
                if not _collect(inner, found):
                    return False
                if len(found) > before and key.strip().lower() not in BOX_KEYS and _is_numbers(inner):
                    return False
        return True
    if isinstance(value, list):
        if _is_numbers(value):
            box = _as_box(value)
            if box is not None:
                found.append(box)
            return box is not None
        # A list mixes nothing: either numbers (above) or objects and lists that hold boxes.
        return all(isinstance(inner, _Pairs | list) and _collect(inner, found) for inner in value)
    return True


def _is_numbers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and not isinstance(value, _Pairs)
        and bool(value)
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value)
    )


def _as_box(numbers: list[Any]) -> Box | None:
    if len(numbers) != 4:
        return None
    try:
        x1, y1, x2, y2 = (float(number) for number in numbers)
    except OverflowError:
        return None
    box = (x1, y1, x2, y2)
    return box if all(math.isfinite(value) for value in box) else None
