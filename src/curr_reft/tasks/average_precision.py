"""Average precision of lists of boxes over a test set, as COCO defines it (Lin et al. 2014, arXiv 1405.0312).

A detector gives each box a confidence; a language model gives none. Boxes are ranked by their place in the answer
instead: all that were listed first come before all that were listed second, and so on, in the order of the questions.
So these figures say how good the lists are and how well they are ordered, and are not to be set beside a detector's.
"""

from collections.abc import Sequence

import numpy as np

from curr_reft.data.item import Box
from curr_reft.tasks.matching import iou_matrix

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU .50:.05:.95, over which COCO's mean average precision is the mean."""

RECALL_POINTS = np.linspace(0.0, 1.0, 101)


def average_precision(answers: Sequence[tuple[Sequence[Box], Sequence[Box]]], threshold: float) -> float:
    """In [0, 1], of (boxes given, true boxes) for every question, all questions as one class; 0 without true boxes.

    A box is right when its IoU with a true box that no earlier one of its answer took is at least ``threshold`` (here
    COCO's rule, not the strict one of the reward); it takes the one it overlaps most. Precision is made to fall with
    recall and read at 101 recalls.
    """
    total = sum(len(true) for _, true in answers)
    ranked = [  # (place in the answer, right), sorted by place and, as the sort is stable, by question
        (place, right) for given, true in answers for place, right in enumerate(_greedy_hits(given, true, threshold))
    ]
    if not ranked or not total:
        return 0.0
    right = np.array([hit for _, hit in sorted(ranked, key=lambda entry: entry[0])])
    hits = np.cumsum(right)
    recall, precision = hits / total, hits / np.arange(1, len(right) + 1)
    best_from_here = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # 0 where the recall is not reached
    return float(best_from_here[np.searchsorted(recall, RECALL_POINTS, side="left")].mean())


def _greedy_hits(given_N: Sequence[Box], true_M: Sequence[Box], threshold: float) -> list[bool]:
    """For each box given, in order, whether it is right."""
    free_NM = iou_matrix(given_N, true_M)
    found = []
    for row in free_NM:
        best = int(row.argmax()) if len(row) else -1
        right = best >= 0 and bool(row[best] >= threshold)
        if right:
            free_NM[:, best] = -1.0  # taken
        found.append(right)
    return found
