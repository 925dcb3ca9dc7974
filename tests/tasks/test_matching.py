"""The matching is optimal: against all permutations where that is few, against networkx where it is not."""

import itertools
import time

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.data.item import Box
from curr_reft.tasks.boxes import iou
from curr_reft.tasks.matching import Matrix, best_matching, iou_matrix

# Few values make many ties, where a matching goes wrong most easily.
weights = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)
small = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda shape: st.lists(
        st.lists(weights, min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
    ).map(np.array)
)
numbers = st.floats() | st.integers(-50, 50)
boxes = st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=6)


def total(weights_NM: Matrix, pairs: list[tuple[int, int]]) -> float:
    rows, columns = [n for n, _ in pairs], [m for _, m in pairs]
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert all(weights_NM[pair] > 0 for pair in pairs)
    return float(sum(weights_NM[pair] for pair in pairs))


@given(small)
def test_no_other_matching_weighs_more(weights_NM: Matrix) -> None:
    tall = weights_NM if weights_NM.shape[0] >= weights_NM.shape[1] else weights_NM.T
    best = max(
        sum(tall[n, m] for m, n in enumerate(rows))
        for rows in itertools.permutations(range(tall.shape[0]), tall.shape[1])
    )
    assert total(weights_NM, best_matching(weights_NM)) == pytest.approx(best)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 25), st.integers(2, 25), st.sampled_from(["any", "0/1", "tenths"]))
def test_networkx_finds_none_that_weighs_more(seed: int, given_boxes: int, true_boxes: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    found = rng.random((given_boxes, true_boxes)) * (rng.random((given_boxes, true_boxes)) < 0.3)
    weights_NM = {"any": found, "0/1": np.ceil(found), "tenths": found.round(1)}[kind]
    graph = networkx.Graph()
    graph.add_weighted_edges_from(
        (f"given {n}", f"true {m}", weights_NM[n, m]) for n, m in zip(*np.nonzero(weights_NM), strict=True)
    )
    best = sum(graph[a][b]["weight"] for a, b in networkx.max_weight_matching(graph))
    assert total(weights_NM, best_matching(weights_NM)) == pytest.approx(best)


@given(boxes, boxes)
def test_overlaps_of_all_pairs_are_those_of_each(given_boxes: list[Box], true_boxes: list[Box]) -> None:
    overlaps = iou_matrix(given_boxes, true_boxes)
    assert overlaps.shape == (len(given_boxes), len(true_boxes))
    for n, m in itertools.product(range(len(given_boxes)), range(len(true_boxes))):
        assert overlaps[n, m] == pytest.approx(iou(given_boxes[n], true_boxes[m]), abs=1e-9)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_matches_nothing(shape: tuple[int, int]) -> None:
    assert best_matching(np.zeros(shape)) == []


@pytest.mark.parametrize("kind", ["equal", "nested", "scattered"])
def test_hundreds_of_boxes_take_no_time_that_a_trainer_would_notice(kind: str) -> None:
    rng = np.random.default_rng(0)
    corner, size = rng.random((300, 2)) * 900, rng.random((300, 2)) * 60 + 1
    made = {
        "equal": [(0.0, 0.0, 10.0, 10.0)] * 300,
        "nested": [(0.0, 0.0, 700.0 + side, 700.0) for side in range(300)],
        "scattered": [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corner, size, strict=True)],
    }[kind]
    started = time.process_time()
    pairs = best_matching((iou_matrix(made, made) > 0.5).astype(float))
    assert time.process_time() - started < 2.0  # some 20 ms; the bound is for a machine that is busy
    assert len(pairs) == 300
