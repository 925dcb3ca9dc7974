"""Dense detection: where are all the things described? The answer is a list of boxes, in any order.

Boxes of the answer and of the truth are matched one to one, as well as it can be done (``matching.py``), so a box said
twice is once right and once too many. That is how DETR trains detectors (Carion et al. 2020, arXiv 2005.12872) and
what Vision-R1 pays (arXiv 2503.18013: recall, precision and IoU of the matched boxes).
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from curr_reft.data.frame import boxes_of
from curr_reft.data.item import Box, Item, Truth
from curr_reft.tasks.base import STRICT_IOU, Frame, Pool, TaskDefaults, TaskOptions
from curr_reft.tasks.boxes import iou, is_valid, read_boxes, write_box
from curr_reft.tasks.detection import FALSE_CLAIM_IOU, box_of, jitter, place_box

MOST_BOXES = 300  # of an answer or a truth: matching them takes some hundredths of a second
MOST_PER_TRUTH = (
    4  # times as many boxes as there are true ones: beyond, an answer lists places instead of finding things
)
LONGEST_ANSWER = 30_000  # characters; MOST_BOXES boxes with labels need fewer
_TRIES = 200  # draws of a jittered box before giving up
_ROUNDS = 8  # changes of each kind that are tried before giving up

Boxes = tuple[Box, ...]


class DenseDetection(TaskDefaults):
    """All boxes of one kind per answer, in the frame of the question. There is at least one."""

    name = "dense_detection"
    absent = "no false list of boxes can be made in the image"

    def read_truth(self, raw: Any) -> Boxes:
        """Boxes from a list of boxes, from one box, or from the text of either. Raises ValueError."""
        if isinstance(raw, str):
            read = read_boxes(raw, longest=LONGEST_ANSWER)
            if read is None:
                raise ValueError(f"{raw[:80]!r} holds no boxes; write [[x1, y1, x2, y2], ...]")
            boxes = tuple(read)
        elif isinstance(raw, list | tuple) and raw and all(isinstance(each, list | tuple | dict) for each in raw):
            boxes = tuple(box_of(each) for each in raw)
        elif isinstance(raw, list | tuple) and not raw:
            raise ValueError("the list of boxes is empty; at least one box is needed")
        else:
            boxes = (box_of(raw),)
        if len(boxes) > MOST_BOXES:
            raise ValueError(f"{len(boxes)} boxes are too many to match; at most {MOST_BOXES} are allowed")
        for number, box in enumerate(boxes, start=1):
            if not is_valid(box):
                raise ValueError(
                    f"box {number} of {len(boxes)}, {write_box(box)}, is empty, inverted or not finite: "
                    "x1 < x2 and y1 < y2 are needed"
                )
        return boxes

    def parse(self, answer: str) -> Boxes | None:
        """The boxes of the one JSON value; None for none and for more than ``MOST_BOXES``. An empty or inverted one is
        kept: it overlaps nothing, so it is a box too many."""
        boxes = read_boxes(answer, longest=LONGEST_ANSWER)
        return tuple(boxes) if boxes is not None and len(boxes) <= MOST_BOXES else None

    def well_formed(self, answer: str) -> bool:
        """JSON boxes, right or wrong."""
        return read_boxes(answer, longest=LONGEST_ANSWER) is not None

    def score(self, parsed: Boxes, truth: Truth, options: TaskOptions) -> float:
        """By ``rewards.dense_detection.score``, with N boxes given, M true ones and K matched above the threshold:
        precision K/N, recall K/M, f1 2K/(N+M), or the sum of the matched IoUs / max(N, M).

        More than ``MOST_PER_TRUTH`` boxes for each true one earn 0: recall alone would pay for boxes everywhere.
        """
        true, section = _boxes(truth), options.tasks.dense_detection
        if len(parsed) > MOST_PER_TRUTH * len(true):
            return 0.0
        if section.score == "iou":
            return _matched_iou(parsed, true) / max(len(parsed), len(true))
        hits = _hits(parsed, true, section.threshold_at(options.progress))
        if section.score == "precision":
            return hits / len(parsed)
        return hits / len(true) if section.score == "recall" else 2 * hits / (len(parsed) + len(true))

    def correct(self, parsed: Boxes, truth: Truth, options: TaskOptions) -> bool:
        """Every true box is matched by one box with an IoU above 0.5, and there is no other box."""
        true = _boxes(truth)
        return len(parsed) == len(true) and _hits(parsed, true, STRICT_IOU) == len(true)

    def write(self, truth: Truth) -> str:
        return "[" + ",".join('{"bbox_2d":' + write_box(box) + "}" for box in _boxes(truth)) + "]"

    def claim(self, truth: Truth) -> str:
        return "[" + ",".join(map(write_box, _boxes(truth))) + "]"

    def option(self, truth: Truth) -> str:
        return self.claim(truth)

    def place(self, item: Item, frame: Frame) -> tuple[Item, Box | None]:
        """Rounding may not lose a box: one that is too small for the image as shown leaves the item out."""
        if not item.images:
            raise ValueError("a dense_detection item needs an image")
        width, height = item.images[0].size
        bounds = frame.to_model((0.0, 0.0, float(width), float(height)), (width, height))
        truth = tuple(place_box(box, frame, (width, height)) for box in _boxes(item.truth))
        placed = [
            tuple(box for box in (place_box(each, frame, (width, height)) for each in _boxes(other)) if is_valid(box))
            for other in item.distractors
        ]
        exact = (frame.to_model(box, (width, height)) for box in _boxes(item.truth))
        if any(iou(box, true) <= STRICT_IOU for box, true in zip(truth, exact, strict=True)):
            raise ValueError("one of the true boxes is too small for the image as the model sees it, or outside of it")
        return replace(item, truth=truth, distractors=tuple(boxes for boxes in placed if boxes)), bounds

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Lists with a box missing, a box moved away or a box added; each is verified wrong by ``correct``.

        With ``apart`` the n claims and the truth form a row in which neighbours differ by one such change, and the
        truth stands anywhere in it. Were every claim a change of the truth, the list that is most like all others
        would be the right one, and no image would be needed to find it.
        """
        truth = _boxes(item.truth)
        chosen: list[Boxes] = []
        before = rng.randint(0, n) if apart else 0
        for length in (before, n - before):
            latest = truth
            for _ in range(length):
                start = latest if apart else truth
                others = (truth, *chosen) if apart else (truth,)
                found = next(
                    (made for made in self._changes(start, item, pool, rng) if self._wrong_for(made, others)), None
                )
                if found is None:
                    break
                chosen.append(found)
                latest = found
        return list(chosen)

    def claim_kind(self, item: Item, claim: Truth, pool: Pool) -> str:
        difference = len(_boxes(claim)) - len(_boxes(item.truth))
        return "a box missing" if difference < 0 else "a box added" if difference > 0 else "a box moved"

    def corpus_scores(self, answers: Sequence[tuple[Any | None, Truth]]) -> dict[str, float]:
        """``map``: COCO's mean average precision over IoU .50:.05:.95; ``ap50``: the average precision at .50."""
        from curr_reft.tasks.average_precision import COCO_THRESHOLDS, average_precision

        pairs = [(parsed or (), _boxes(truth)) for parsed, truth in answers]
        by_threshold = [average_precision(pairs, threshold) for threshold in COCO_THRESHOLDS]
        return {"map": sum(by_threshold) / len(by_threshold), "ap50": by_threshold[0]}

    def _wrong_for(self, claim: Boxes, others: Sequence[Boxes]) -> bool:
        options = TaskOptions()
        return not any(self.correct(claim, other, options) for other in others)

    def _changes(self, boxes: Boxes, item: Item, pool: Pool, rng: random.Random) -> Iterator[Boxes]:
        """The list with one change, of each kind in random order, again and again with other boxes."""
        free = _free_boxes(boxes, item, pool, rng)
        for _ in range(_ROUNDS):
            for kind in rng.sample(("missing", "moved", "added"), 3):
                place = rng.randrange(len(boxes))
                rest = boxes[:place] + boxes[place + 1 :]
                elsewhere = None if kind == "missing" else next(free, None)
                if kind == "missing" and rest:
                    yield rest
                elif elsewhere is not None and kind == "moved":
                    yield (*boxes[:place], elsewhere, *boxes[place + 1 :])
                elif elsewhere is not None and len(boxes) < MOST_BOXES:
                    yield (*boxes[:place], elsewhere, *boxes[place:])


def _free_boxes(boxes: Boxes, item: Item, pool: Pool, rng: random.Random) -> Iterator[Box]:
    """Other objects' boxes, then boxes of about the size of one in the list, anywhere in the image; only such as meet
    none of the list or the truth by more than ``FALSE_CLAIM_IOU``."""
    taken = {*boxes, *_boxes(item.truth)}
    others = [box for other in item.distractors for box in _boxes(other)]
    rng.shuffle(others)
    right, bottom = (2 * max(box[side] for box in taken) for side in (2, 3))
    bounds = pool.bounds or (0.0, 0.0, right, bottom)
    drawn = (jitter(rng.choice(boxes), bounds, rng) for _ in range(_TRIES))
    for box in itertools.chain(others, drawn):
        if is_valid(box) and all(iou(box, other) <= FALSE_CLAIM_IOU for other in taken):
            yield box


def _hits(given: Sequence[Box], true: Sequence[Box], threshold: float) -> int:
    """The most pairs with an IoU strictly above the threshold, each box in one pair."""
    from curr_reft.tasks.matching import best_matching, iou_matrix

    return len(best_matching((iou_matrix(given, true) > threshold).astype(float)))


def _matched_iou(given: Sequence[Box], true: Sequence[Box]) -> float:
    """The largest sum of IoUs of pairs, each box in one pair."""
    from curr_reft.tasks.matching import best_matching, iou_matrix

    overlaps = iou_matrix(given, true)
    return sum(float(overlaps[pair]) for pair in best_matching(overlaps))


def _boxes(truth: Truth) -> Boxes:
    boxes = boxes_of(truth)
    assert boxes, truth
    return boxes
