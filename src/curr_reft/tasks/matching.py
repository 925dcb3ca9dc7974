"""Boxes of an answer against the boxes of a truth, one to one, as well as it can be done.

Loading it loads numpy, which importing ``curr_reft.tasks`` must not: it is imported where it is called.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from curr_reft.data.item import Box
from curr_reft.tasks.boxes import is_valid

Matrix = npt.NDArray[np.float64]


def iou_matrix(given_N: Sequence[Box], true_M: Sequence[Box]) -> Matrix:
    """IoU of every pair, [N, M]: ``boxes.iou`` for all pairs at once (a test holds them equal)."""
    if not given_N or not true_M:
        return np.zeros((len(given_N), len(true_M)))
    # A box that is not valid overlaps nothing: it becomes an empty one far from all coordinates that are allowed.
    nowhere: Box = (-1e9, -1e9, -1e9, -1e9)
    given, true = (
        np.array([box if is_valid(box) else nowhere for box in boxes], dtype=np.float64) for boxes in (given_N, true_M)
    )
    low_NM2 = np.maximum(given[:, None, :2], true[None, :, :2])
    high_NM2 = np.minimum(given[:, None, 2:], true[None, :, 2:])
    shared_NM = np.prod(np.maximum(high_NM2 - low_NM2, 0.0), axis=2)
    areas_N, areas_M = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (given, true))
    union_NM = areas_N[:, None] + areas_M[None, :] - shared_NM
    return np.divide(shared_NM, union_NM, out=np.zeros_like(shared_NM), where=union_NM > 0.0).clip(0.0, 1.0)


def best_matching(weights_NM: Matrix) -> list[tuple[int, int]]:
    """The pairs (n, m) of a one-to-one matching of the largest total weight; weights in [0, 1], pairs of 0 left out.

    The Hungarian method by shortest augmenting paths (Kuhn 1955; Jonker and Volgenant 1987): rows are added one by one,
    and each finds the cheapest way to a free column, along which earlier rows move over. At most min(N, M)^2 steps,
    each over one row of the matrix.
    """
    if weights_NM.shape[0] > weights_NM.shape[1]:
        return sorted((n, m) for m, n in best_matching(weights_NM.T))
    costs_NM = -weights_NM
    rows, columns = costs_NM.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    row_of = np.full(columns, -1)  # the row a column is matched with
    for row in range(rows):
        distance = np.full(columns, np.inf)  # of the cheapest way from ``row`` to each column
        came_from = np.full(columns, -1)  # the column before on that way
        closed = np.zeros(columns, dtype=bool)
        here, column, shortest = row, -1, 0.0
        while True:
            ways = shortest + costs_NM[here] - row_price[here] - column_price
            nearer = (ways < distance) & ~closed
            distance[nearer], came_from[nearer] = ways[nearer], column
            reach = np.where(closed, np.inf, distance)
            shortest = float(reach.min())
            # Of equally near columns a free one ends the search: overlaps are few, and most weights are equal (0).
            column = int(np.where(reach == shortest, row_of, rows).argmin())
            closed[column] = True
            if row_of[column] < 0:
                break
            here = int(row_of[column])
        # Prices move so that every matched pair stays tight: cost = price of its row + price of its column.
        row_price[row] += shortest
        moved = closed.copy()
        moved[column] = False
        row_price[row_of[moved]] += shortest - distance[moved]
        column_price[moved] -= shortest - distance[moved]
        while column >= 0:
            before = int(came_from[column])
            row_of[column] = row if before < 0 else row_of[before]
            column = before
    return sorted((int(n), m) for m, n in enumerate(row_of) if n >= 0 and weights_NM[n, m] > 0.0)
