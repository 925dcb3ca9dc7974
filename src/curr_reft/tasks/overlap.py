"""How well two boxes agree beside their IoU (``boxes.py``), which is 0 for all boxes that do not meet."""

from curr_reft.data.item import Box
from curr_reft.tasks.boxes import area, iou, is_valid


def giou(first: Box, second: Box) -> float:
    """Generalised IoU of half-open float boxes, in [-1, 1]: IoU - (hull - union) / hull; -1 when one is not valid.

    Rezatofighi et al. 2019 (arXiv 1902.09630), algorithm 1; the hull is the smallest box around both. It equals the
    IoU when the union fills the hull, is never above it, and is below 0 for boxes that do not meet.
    """
    if not (is_valid(first) and is_valid(second)):
        return -1.0
    hull = area(
        (min(first[0], second[0]), min(first[1], second[1]), max(first[2], second[2]), max(first[3], second[3]))
    )
    overlap = iou(first, second)
    # iou = shared / union and shared = both - union, so the union follows without a second intersection.
    union = (area(first) + area(second)) / (1.0 + overlap)
    return max(-1.0, min(overlap, overlap - (hull - union) / hull))
