"""BoxFrame: what a model family answers in, and the one rule that says which size of image it sees.

Boxes are kept in pixels of the original image everywhere (``Item``). A question, its truth and every prediction pass
through the same ``BoxFrame``, so that the truth is always in the frame of the image the model was shown.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeGuard, get_args

from curr_reft.data.item import Box, Truth
from curr_reft.errors import DataError

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""

FrameKind: TypeAlias = Literal["pixels", "thousand", "unit"]

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
