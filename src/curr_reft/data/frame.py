"""BoxFrame: what a model family answers in, and the one rule that says which size of image it sees. And the formats in
which files write a box, which all become corners before a task reads them.

Boxes are kept in pixels of the original image everywhere (``Item``). A question, its truth and every prediction pass
through the same ``BoxFrame``, so that the truth is always in the frame of the image the model was shown.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeGuard, get_args

from curr_reft.data.item import Box, Truth
from curr_reft.errors import DataError

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

FrameKind: TypeAlias = Literal["pixels", "thousand", "unit"]

BoxFormat: TypeAlias = Literal["xyxy", "xywh", "cxcywh"]
"""How four numbers are a box: two corners; the upper left corner, width and height; the centre, width and height."""

BOX_TASKS = ("detection", "dense_detection")
"""Tasks whose truths are boxes."""

BOX_COLUMNS: Mapping[tuple[str, str, str, str], BoxFormat] = {
    ("xmin", "ymin", "xmax", "ymax"): "xyxy",
    ("minx", "miny", "maxx", "maxy"): "xyxy",
    ("x1", "y1", "x2", "y2"): "xyxy",
    ("x0", "y0", "x1", "y1"): "xyxy",
    ("left", "top", "right", "bottom"): "xyxy",
    ("xtl", "ytl", "xbr", "ybr"): "xyxy",
    ("cx", "cy", "w", "h"): "cxcywh",
    ("cx", "cy", "width", "height"): "cxcywh",
    ("xcenter", "ycenter", "width", "height"): "cxcywh",
    ("xcenter", "ycenter", "w", "h"): "cxcywh",
    ("centerx", "centery", "width", "height"): "cxcywh",
    ("centerx", "centery", "w", "h"): "cxcywh",
    ("x", "y", "w", "h"): "xywh",
    ("x", "y", "width", "height"): "xywh",
    ("left", "top", "width", "height"): "xywh",
    ("xmin", "ymin", "width", "height"): "xywh",
    ("xmin", "ymin", "w", "h"): "xywh",
    ("x1", "y1", "w", "h"): "xywh",
}
"""Names of the four numbers of a box in lower case, letters and digits only, and the format they say."""

MAX_ASPECT_RATIO = 200
"""Longer side over shorter side. Beyond it the image processors of the Qwen family refuse an image."""


def is_box(truth: object) -> TypeGuard[Box]:
    """Whether a truth is a box: four numbers, not names, not several boxes and not an expression."""
    return isinstance(truth, tuple) and len(truth) == 4 and all(isinstance(value, (int, float)) for value in truth)


def boxes_of(truth: Truth) -> tuple[Box, ...]:
    """The boxes a truth consists of: one, several, or none where it is names or an expression."""
    if is_box(truth):
        return (truth,)
    boxes = tuple(each for each in truth if is_box(each))
    return boxes if len(boxes) == len(truth) else ()


_OF_A_BOX = re.compile(r"^(?:bounding|b|r|annotation)?(?:box|rect|bndbox)(?=.)")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold()).replace("centre", "center")


def box_columns(names: Sequence[str]) -> tuple[tuple[str, ...], BoxFormat] | None:
    """The columns that hold the four numbers of a box, in their order, and the format their names say.

    ``bbox_x1``, ``Box.X1`` and ``X_1`` are ``x1``; those that say box come first, since ``width`` beside ``bbox_width``
    is that of the picture.
    """
    of_a_box = [name for name in names if _OF_A_BOX.match(_letters(name))]
    for candidates in (of_a_box, names):
        plain = {_OF_A_BOX.sub("", _letters(name)): name for name in reversed(candidates)}
        for wanted, box_format in BOX_COLUMNS.items():
            if all(name in plain for name in wanted):
                return tuple(plain[name] for name in wanted), box_format
    return None


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_PLAIN_BOX = re.compile(rf"[\[(]?\s*{_NUMBER}(?:(?:\s*[,;]\s*|\s+){_NUMBER}){{3}}\s*[\])]?", re.ASCII)
_BOX_KEYS = ("box", "bbox", "bbox2d", "boundingbox", "boxes", "bboxes", "coordinates")

RawBox: TypeAlias = tuple[float, float, float, float]
"""Four numbers of a file, whatever they say."""


def raw_boxes(raw: Any) -> tuple[list[RawBox], BoxFormat | None, bool] | None:
    """The boxes of a truth as its row writes it: (their numbers, the format that the names of the numbers say, whether
    the row writes a list of boxes). None where it holds no boxes, or another number of numbers.

    Read are four numbers, objects with named numbers (``{"x": 1, "y": 2, "width": 3, "height": 4}``) or with a box
    under a key such as ``bbox``, lists of these, and the text of any of them (JSON, or four numbers with commas,
    semicolons or spaces between).
    """
    if isinstance(raw, str):
        if _PLAIN_BOX.fullmatch(raw.strip()):
            return raw_boxes([float(number) for number in re.findall(_NUMBER, raw, re.ASCII)])
        try:
            value = json.loads(raw.strip().replace("'", '"'), object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            return None
        return None if isinstance(value, str) else raw_boxes(value)
    if isinstance(raw, Mapping):
        named = box_columns([str(key) for key in raw])
        if named is not None:
            numbers = _four([raw[key] for key in named[0]])
            return None if numbers is None else ([numbers], named[1], False)
        held = [value for key, value in raw.items() if re.sub(r"[^a-z0-9]", "", str(key).casefold()) in _BOX_KEYS]
        return raw_boxes(held[0]) if len(held) == 1 else None
    if not isinstance(raw, list | tuple) or not raw:
        return None
    numbers = _four(raw)
    if numbers is not None:
        return [numbers], None, False
    if not all(isinstance(box, list | tuple | Mapping) for box in raw):
        return None
    found = [raw_boxes(box) for box in raw]
    boxes = [box for each in found if each is not None and not each[2] for box in each[0]]
    formats = {each[1] for each in found if each is not None}
    if len(boxes) != len(raw) or len(formats) != 1:
        return None
    return boxes, formats.pop(), True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _four(values: Sequence[Any]) -> RawBox | None:
    if len(values) != 4 or any(isinstance(value, bool) or not isinstance(value, int | float | str) for value in values):
        return None
    try:
        x, y, third, fourth = (float(value) for value in values)
    except (ValueError, OverflowError):
        return None
    return (x, y, third, fourth)


def corners(numbers: RawBox, box_format: BoxFormat) -> RawBox:
    """The numbers as ``(x1, y1, x2, y2)``; whether these are a box, a task decides."""
    x, y, width, height = numbers
    if box_format == "xywh":
        return (x, y, x + width, y + height)
    if box_format == "cxcywh":
        return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return numbers


def as_corners(raw: Any, box_format: BoxFormat | None) -> Any:
    """The truth of a row with its boxes as corners. ``box_format``: None for what the names of the numbers say, else
    corners. A truth that holds corners already is left to its task. Raises ValueError for a truth without boxes where
    the format is not that of a task, and for a box without an area."""
    found = raw_boxes(raw)
    if found is None:
        if box_format in (None, "xyxy"):
            return raw
        raise ValueError(f"{str(raw)[:80]!r} holds no box of four numbers, which box_format {box_format} says it is")
    boxes, named, many = found
    chosen = box_format or named or "xyxy"
    as_text = _PLAIN_BOX.fullmatch(raw.strip()) if isinstance(raw, str) else any(isinstance(side, str) for side in raw)
    if chosen == "xyxy" and named is None and not as_text:
        return raw  # which its task reads
    for box in boxes:
        if chosen != "xyxy" and not (box[2] > 0 and box[3] > 0):
            raise ValueError(f"box {list(box)} is empty as {chosen}: its width and height must be above 0")
    changed = [list(corners(box, chosen)) for box in boxes]
    return changed if many else changed[0]


def inverted_as_corners(raw: Any) -> str | None:
    """Name the first box of the truth that is no box as two corners, if all are boxes as x, y, width and height."""
    found = raw_boxes(raw)
    if found is None or found[1] is not None:
        return None
    boxes = found[0]
    inverted = [number for number, box in enumerate(boxes, start=1) if box[2] <= box[0] or box[3] <= box[1]]
    if not inverted or not all(min(box[:2]) >= 0 and min(box[2:]) > 0 for box in boxes):
        return None
    box = list(boxes[inverted[0] - 1])
    return f"box {inverted[0]} of {len(boxes)}, {box}," if len(boxes) > 1 else f"box {box}"


def map_boxes(truth: Truth, change: Callable[[Box], Box]) -> Truth:
    """The truth with ``change`` made to each of its boxes; a truth without boxes as it is."""
    if is_box(truth):
        return change(truth)
    boxes = boxes_of(truth)
    return tuple(map(change, boxes)) if boxes else truth


def keep_size(size: Size) -> Size:
    """The fit of a model that sees images as they are."""
    return size


@dataclass(frozen=True)
class ResizeRule:
    """The size a model sees: both sides multiples of ``factor``, the aspect kept as nearly as they allow, and the
    number of pixels within ``[min_pixels, max_pixels]``.

    The same numbers as ``smart_resize`` of Qwen2-VL, Qwen2.5-VL and Qwen3-VL in transformers (a test compares them).
    """

    factor: int
    min_pixels: int
    max_pixels: int

    def __post_init__(self) -> None:
        assert self.factor >= 1, self.factor
        assert self.factor**2 <= self.max_pixels, "one patch must fit under max_pixels"
        assert 0 <= self.min_pixels <= self.max_pixels, (self.min_pixels, self.max_pixels)

    def __call__(self, size: Size) -> Size:
        """Raises DataError for an image without pixels or longer than ``MAX_ASPECT_RATIO`` times its width."""
        width, height = size
        if width < 1 or height < 1 or max(size) > MAX_ASPECT_RATIO * min(size):
            raise DataError(
                f"image of {width}x{height} pixels",
                f"the longer side may be at most {MAX_ASPECT_RATIO} times the shorter; crop or pad it",
            )
        factor = self.factor
        # Banker's rounding, as in the reference: 42 / 28 = 1.5 becomes 2 and 70 / 28 = 2.5 becomes 2 too.
        new_height = round(height / factor) * factor
        new_width = round(width / factor) * factor
        if new_height * new_width > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            new_height = max(factor, math.floor(height / shrink / factor) * factor)
            new_width = max(factor, math.floor(width / shrink / factor) * factor)
        elif new_height * new_width < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            new_height = math.ceil(height * grow / factor) * factor
            new_width = math.ceil(width * grow / factor) * factor
        # A side below half a factor rounds to 0 while the bounds hold on neither branch (min_pixels = 0).
        return max(factor, new_width), max(factor, new_height)


def resize_rule(factor: int, min_pixels: int, max_pixels: int) -> ResizeRule:
    """Qwen's smart resize as a ``fit``. ``factor`` is patch size times merge size (28 for Qwen2.5-VL)."""
    return ResizeRule(factor=factor, min_pixels=min_pixels, max_pixels=max_pixels)


@dataclass(frozen=True)
class BoxFrame:
    """The coordinates a model family answers in.

    ``pixels``: of the resized image (Qwen2.5-VL); ``thousand``: 0-1000 of the image (Qwen2-VL, Qwen3-VL);
    ``unit``: 0-1 of the image. ``fit(size)`` is the size of the image the model sees.
    """

    kind: FrameKind
    fit: Callable[[Size], Size] = keep_size

    def __post_init__(self) -> None:
        assert self.kind in get_args(FrameKind), self.kind

    def extent(self, size: Size) -> tuple[float, float]:
        """The largest x and y of this frame for an image of ``size`` (original width, height)."""
        if self.kind == "pixels":
            return self.fit(size)
        return (1000.0, 1000.0) if self.kind == "thousand" else (1.0, 1.0)

    def to_model(self, box: Box, size: Size) -> Box:
        """``box`` in original pixels -> in this frame. Not rounded: writing an answer rounds, comparing does not."""
        (width, height), (right, bottom) = size, self.extent(size)
        x1, y1, x2, y2 = box
        return x1 * right / width, y1 * bottom / height, x2 * right / width, y2 * bottom / height

    def to_original(self, box: Box, size: Size) -> Box:
        """The inverse of ``to_model``: ``box`` in this frame -> in pixels of the original image of ``size``."""
        (width, height), (right, bottom) = size, self.extent(size)
        x1, y1, x2, y2 = box
        return x1 * width / right, y1 * height / bottom, x2 * width / right, y2 * height / bottom
