"""Boxes as numbers and as text: IoU, rounding, reading the boxes of an answer. Half-open float boxes throughout.

What is read: a JSON list or object (Qwen2.5-VL's ``[{"bbox_2d": [...], "label": "..."}]``, InternVL's
``<box>[[...]]</box>``), with code fences, single quotes, trailing commas and words around it forgiven; four numbers
bare or in parentheses; and Qwen-VL's two corners ``(x1,y1),(x2,y2)``. Beside a box an object may hold texts, lists of
texts, and points or scores under their own keys. A text that names a second box, or takes the box back,
holds none. Nothing is ever evaluated.
"""

import json
import math
import re
from typing import Any

from curr_reft.data.item import Box
from curr_reft.tasks.wrappers import punctuated, unwrapped

BOX_KEYS = frozenset(
    {"bbox_2d", "bbox2d", "bbox", "box", "box_2d", "bounding_box", "boundingbox", "coordinates"}
    | {"position", "bboxes", "boxes", "bounding_boxes"}  # Visual-RFT asks for {"Position": ..., "Confidence": ...}
)
CORNER_KEYS = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
LONGEST_PROSE = 400  # characters on either side of a box that are read for doubt
LONGEST_ANSWER = 4000  # characters; a box needs fewer than 100
LARGEST_COORDINATE = 1e7  # keeps areas finite and exact enough

POINT_KEYS = frozenset(
    {"point_2d", "point", "points", "keypoints", "center", "score", "scores", "confidence", "confidences"}
)
LONGEST_POINT = 3  # numbers

_DEEPEST = 20  # lists and objects in one another; more is an attack on the reader
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_SEPARATED = rf"{_NUMBER}\s*,\s*{_NUMBER}"
_CORNERS = rf"\(\s*{_SEPARATED}\s*\)"
# Four numbers or two corners, the only numbers and brackets of the text.
_BARE = re.compile(
    rf"(?P<before>[^\d()\[\]{{}}]*)(?<![-+.\w])"
    rf"(?P<box>\(\s*{_SEPARATED}\s*,\s*{_SEPARATED}\s*\)|{_SEPARATED}\s*,\s*{_SEPARATED}|{_CORNERS}\s*,?\s*{_CORNERS})"
    rf"(?P<after>(?![\w%]|[.,]\d)[^\d()\[\]{{}}]*)",
    re.ASCII,
)
_NUMBERS = re.compile(_NUMBER, re.ASCII)
_MORE = re.compile(r"\d[\s,;()]+[-+.]?\d", re.ASCII)  # "60, 60, ..." or "60 60 ..." beside the box
_DENIED = re.compile(r"(?:\bnot|n't|\bor|\bneither|\bnor|\bexcept)\W*$", re.IGNORECASE)
_TAKEN_BACK = re.compile(r"^\W*(?:or|nor|not|is not|isn't|is wrong|no)\b|^\s*[-+*/%^]+\s*\d", re.IGNORECASE)
# Words beside a box that deny it, doubt it or count more than one.
_DOUBTED = re.compile(
    r"\b(?:there (?:is|are) no(?:t|ne|thing)?|no such|none of|cannot|can't|either|neither)\b"
    r"|\b(?:maybe|perhaps|possibly|unsure)\b"
    r"|\b(?:two|three|four|both|several|other)\s+(?:\w+\s+)?box(?:es)?\b|\band the others?\b",
    re.IGNORECASE,
)
_OPENING = re.compile(r"[\[{]")
_SINGLE_QUOTED = re.compile(r"'([^'\"\\]*)'")
_MORE_PUNCTUATION = str.maketrans("【】〔〕、،", "[][],,")
_TRAILING_COMMA = re.compile(r",(\s*[\]}])")


def is_valid(box: Box) -> bool:
    """Finite, of positive width, height and area."""
    x1, y1, x2, y2 = box
    # A comparison with NaN is false, so this refuses what is not finite too.
    inside = (
        -LARGEST_COORDINATE <= x1 < x2 <= LARGEST_COORDINATE and -LARGEST_COORDINATE <= y1 < y2 <= LARGEST_COORDINATE
    )
    return inside and (x2 - x1) * (y2 - y1) > 0.0  # sides of 1e-200 have an area that no float holds


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


def read_boxes(answer: str, longest: int = LONGEST_ANSWER) -> list[Box] | None:
    """All boxes of the one JSON list or object in the text; None if there is none.

    Pairs of equal keys are all kept, so that ``{"bbox": first, "bbox": second}`` counts as two boxes.
    """
    value = _read_json(unwrapped(answer)) if len(answer) <= longest else None
    if value is None:
        return None
    found: list[Box] = []
    return found if _collect(value, found, named=True, depth=0) and found else None


def _bare_box(answer: str) -> list[Box] | None:
    text = _punctuated(unwrapped(answer)) if len(answer) <= LONGEST_ANSWER else ""
    found = _BARE.fullmatch(text)
    if found is None or _doubted(found["before"], found["after"]):
        return None
    box = _as_box([float(number) for number in _NUMBERS.findall(found["box"])])
    return None if box is None else [box]


def read_box(answer: str) -> Box | None:
    """The one valid box of an answer, as JSON or bare; None when there is none, more than one, or it is inverted."""
    boxes = read_boxes(answer) or _bare_box(answer)
    if boxes is None or len(boxes) != 1 or not is_valid(boxes[0]):
        return None
    return boxes[0]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its equal keys kept."""


_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs)


def _read_json(text: str) -> Any | None:
    """The single JSON list or object of the text, words around it ignored."""
    for candidate in (text, _forgiven(text)):
        opening = _OPENING.search(candidate)  # forgiving may move it, or make one
        if opening is None:
            continue
        start = opening.start()
        try:
            value, end = _DECODER.raw_decode(candidate, start)
        except (ValueError, RecursionError):  # not JSON, or nested to exhaust the parser: an answer without a box
            continue
        before, after = candidate[:start], candidate[end:]
        if any(mark in after for mark in "[]{}") or _doubted(before, after):
            return None
        return None if _MORE.search(before) or _MORE.search(after) else value
    return None


def _doubted(before: str, after: str) -> bool:
    """Whether the words around a box leave open that it is the answer."""
    return bool(
        _DENIED.search(before)
        or _TAKEN_BACK.search(after)
        or _DOUBTED.search(before[-LONGEST_PROSE:])
        or _DOUBTED.search(after[:LONGEST_PROSE])
    )


def _forgiven(text: str) -> str:
    """JSON of what Python prints: single quotes, a comma before the closing bracket. Lengths before it are kept."""
    return _TRAILING_COMMA.sub(r"\1", _SINGLE_QUOTED.sub(r'"\1"', _punctuated(text)))


def _punctuated(text: str) -> str:
    return punctuated(text).translate(_MORE_PUNCTUATION)


def _collect(value: Any, found: list[Box], named: bool, depth: int) -> bool:
    """Adds the boxes of a JSON value; False when a list of numbers is no box or stands under an unknown key."""
    if depth > _DEEPEST:
        return False
    if isinstance(value, _Pairs):
        return _collect_object(value, found, depth)
    if _is_numbers(value):
        box = _as_box(value)
        if box is None or not named:
            return False
        found.append(box)
        return True
    # A list mixes nothing: either numbers (above) or objects and lists that hold boxes.
    return all(isinstance(inner, _Pairs | list) and _collect(inner, found, named, depth + 1) for inner in value)


def _collect_object(pairs: _Pairs, found: list[Box], depth: int) -> bool:
    keyed = [(key.strip().lower(), value) for key, value in pairs]
    for corners in CORNER_KEYS:
        named = sorted((pair for pair in keyed if pair[0] in corners), key=lambda pair: corners.index(pair[0]))
        if not named:
            continue
        numbers = [value for _, value in named]
        box = _as_box(numbers) if tuple(key for key, _ in named) == corners and _is_numbers(numbers) else None
        if box is None:
            return False
        found.append(box)
    return all(
        _collect(inner, found, key in BOX_KEYS, depth + 1)
        for key, inner in keyed
        if isinstance(inner, _Pairs | list) and (key in BOX_KEYS or not _is_beside(key, inner))
    )


def _is_beside(key: str, value: Any) -> bool:
    """Whether a list under a key that names no box says something else about the object: ``"label": ["dog", "pet"]``,
    ``"attributes": ["brown", 2]``, ``"point_2d": [215, 162]``, ``"keypoints": [[1, 2], [3, 4]]``."""
    if isinstance(value, _Pairs) or any(isinstance(inner, _Pairs) for inner in value):
        return False
    if key in POINT_KEYS:
        points = value if any(isinstance(inner, list) for inner in value) else [value]
        return all(_is_numbers(point) and len(point) <= LONGEST_POINT for point in points)
    return not _is_numbers(value) and not any(isinstance(inner, list) for inner in value)


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
