"""Detection: where is the thing described? The answer is one box; its accuracy is decided by IoU.

Curr-ReFT section 3: 1 when IoU > 0.5. The reference code takes the last of several boxes and counts pixels with both
ends included; here an answer holds exactly one box and boxes are half-open.
"""

import random
from dataclasses import replace
from typing import Any

from curr_reft.data.frame import is_box
from curr_reft.data.item import Box, Item, Truth
from curr_reft.tasks.base import STRICT_IOU, Frame, Pool, TaskDefaults, TaskOptions
from curr_reft.tasks.boxes import BOX_KEYS, iou, is_valid, read_box, read_boxes, round_box, write_box
from curr_reft.tasks.overlap import giou

FALSE_CLAIM_IOU = 0.3  # a false claim is at most this close to the truth
OPTION_IOU = 0.5  # options are closer than this neither to the truth nor to each other
_TRIES = 200  # draws of a jittered box before giving up


class Detection(TaskDefaults):
    """One box per answer, in the frame of the question."""

    name = "detection"
    absent = "no false box can be placed in the image"

    def read_truth(self, raw: Any) -> Box:
        """A box from four numbers, ``{"bbox_2d": [...]}`` or the text of either. Raises ValueError."""
        box = box_of(raw)
        if not is_valid(box):
            raise ValueError(f"box {write_box(box)} is empty, inverted or not finite: x1 < x2 and y1 < y2 are needed")
        return box

    def parse(self, answer: str) -> Box | None:
        return read_box(answer)

    def well_formed(self, answer: str) -> bool:
        """A JSON box, right or wrong, one or more (Curr-ReFT section 3.2)."""
        return read_boxes(answer) is not None

    def score(self, parsed: Box, truth: Truth, options: TaskOptions) -> float:
        """By ``rewards.detection.score``: 1 strictly above the threshold (Curr-ReFT), the IoU, or the GIoU.

        GIoU is in [-1, 1] and a reward in [0, 1]: what is below 0 earns 0. Mapped by (1 + GIoU) / 2 instead, a box
        beside the truth would earn up to a half, and the whole image more than a half for any truth.
        """
        section = options.tasks.detection
        if section.score == "giou":
            return max(0.0, giou(parsed, _box(truth)))
        value = iou(parsed, _box(truth))
        return value if section.score == "iou" else float(value > section.threshold_at(options.progress))

    def correct(self, parsed: Box, truth: Truth, options: TaskOptions) -> bool:
        return iou(parsed, _box(truth)) > STRICT_IOU

    def write(self, truth: Truth) -> str:
        return '{"bbox_2d":' + write_box(_box(truth)) + "}"

    def claim(self, truth: Truth) -> str:
        return write_box(_box(truth))

    def option(self, truth: Truth) -> str:
        return write_box(_box(truth))

    def place(self, item: Item, frame: Frame) -> tuple[Item, Box | None]:
        """Rounding may move a side by half a unit; it may not change who is right, nor empty a box."""
        if not item.images:
            raise ValueError("a detection item needs an image")
        width, height = item.images[0].size
        bounds = frame.to_model((0.0, 0.0, float(width), float(height)), (width, height))

        truth = place_box(_box(item.truth), frame, (width, height))
        if iou(truth, frame.to_model(_box(item.truth), (width, height))) <= STRICT_IOU:
            raise ValueError("the true box is too small for the image as the model sees it, or outside of it")
        placed = (place_box(_box(other), frame, (width, height)) for other in item.distractors)
        others = tuple(box for box in placed if is_valid(box))
        return replace(item, truth=truth, distractors=others), bounds

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Boxes of other objects first (they are the plausible ones), then jittered copies of the true box.

        IoU with the truth is at most 0.3 for a claim; with ``apart`` it is below 0.5 with the truth and among the
        claims. ``item`` and ``pool.bounds`` are in the frame of the question, already rounded.
        """
        truth = _box(item.truth)
        bounds = pool.bounds or (0.0, 0.0, 2 * truth[2], 2 * truth[3])
        chosen: list[Truth] = []

        def accept(box: Box) -> None:
            near = iou(box, truth)
            wrong = near < OPTION_IOU if apart else near <= FALSE_CLAIM_IOU
            if wrong and is_valid(box) and (not apart or all(iou(box, _box(other)) < OPTION_IOU for other in chosen)):
                chosen.append(box)

        others = [_box(other) for other in item.distractors]
        rng.shuffle(others)
        for other in others:
            if len(chosen) < n:
                accept(other)
        for _ in range(_TRIES):
            if len(chosen) >= n:
                break
            accept(jitter(truth, bounds, rng))
        return chosen

    def claim_kind(self, item: Item, claim: Truth, pool: Pool) -> str:
        return "another box of the row" if claim in item.distractors else "jittered box"


def box_of(raw: Any) -> Box:
    """Four numbers of a row, their text, or an object that holds them; not checked to be a box. Raises ValueError."""
    if isinstance(raw, str):
        boxes = read_boxes(raw)
        if boxes is None or len(boxes) != 1:
            raise ValueError(f"{raw!r} does not hold exactly one box; write [x1, y1, x2, y2]")
        return boxes[0]
    if isinstance(raw, dict):
        named = [value for key, value in raw.items() if str(key).lower() in BOX_KEYS]
        if len(named) != 1:
            raise ValueError(f"{raw!r} does not hold exactly one of the keys {sorted(BOX_KEYS)}")
        raw = named[0]
    if not isinstance(raw, list | tuple):
        raise ValueError(f"{raw!r} is no box; write [x1, y1, x2, y2]")
    if len(raw) == 1 and isinstance(raw[0], list | tuple | dict):
        return box_of(raw[0])
    numbers = [value for value in raw if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(raw) != 4 or len(numbers) != 4:
        raise ValueError(f"{raw!r} is no box: four numbers [x1, y1, x2, y2] are needed")
    try:
        x1, y1, x2, y2 = (float(value) for value in numbers)
    except OverflowError as error:
        raise ValueError("a coordinate of the box is too large") from error
    return (x1, y1, x2, y2)


def _box(truth: Truth) -> Box:
    assert is_box(truth), truth
    x1, y1, x2, y2 = truth
    return (float(x1), float(y1), float(x2), float(y2))


def place_box(box: Box, frame: Frame, size: tuple[int, int]) -> Box:
    """A box of an image of ``size`` (width, height) in the frame, rounded as a model writes it; may come out empty."""
    width, height = size
    return round_box(frame.to_model(box, size), frame.to_model((0.0, 0.0, float(width), float(height)), size))


def jitter(truth: Box, bounds: Box, rng: random.Random) -> Box:
    """A box of about the size of the true one (a factor of 0.6 to 1.6 a side), anywhere in the image."""
    width = min((truth[2] - truth[0]) * rng.uniform(0.6, 1.6), bounds[2] - bounds[0])
    height = min((truth[3] - truth[1]) * rng.uniform(0.6, 1.6), bounds[3] - bounds[1])
    left = rng.uniform(bounds[0], bounds[2] - width)
    top = rng.uniform(bounds[1], bounds[3] - height)
    return round_box((left, top, left + width, top + height), bounds)
