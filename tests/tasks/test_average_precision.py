"""Average precision against COCO's definition written out plainly, and against figures worked out by hand."""

from bisect import insort

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.data.item import Box
from curr_reft.tasks import TASKS
from curr_reft.tasks.average_precision import COCO_THRESHOLDS, average_precision

Answer = tuple[list[Box], list[Box]]

corners, sides = st.integers(0, 6), st.integers(1, 6)
boxes = st.tuples(corners, corners, sides, sides).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
answers = st.lists(st.tuples(st.lists(boxes, max_size=4), st.lists(boxes, min_size=1, max_size=3)), max_size=5)


def squares(box: Box) -> set[tuple[int, int]]:
    return {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}


def plain_average_precision(asked: list[Answer], threshold: float) -> float:
    """Written from the definition: sort by confidence (1/place), match, then at each of 101 recalls take the best
    precision reached at that recall or a higher one."""
    detections: list[tuple[float, int, int]] = []
    for question, (listed, _) in enumerate(asked):
        for place in range(len(listed)):
            insort(detections, (-1 / (place + 1), question, place))
    taken: set[tuple[int, int]] = set()
    curve: list[tuple[float, float]] = []
    hits, positives = 0, sum(len(true) for _, true in asked)
    for count, (_, question, place) in enumerate(detections, start=1):
        listed, true = asked[question]
        best, chosen = threshold, None
        for number, box in enumerate(true):
            one, other = squares(listed[place]), squares(box)
            overlap = len(one & other) / len(one | other)
            if (question, number) not in taken and overlap >= best and (chosen is None or overlap > best):
                best, chosen = overlap, number
        if chosen is not None:
            taken.add((question, chosen))
            hits += 1
        curve.append((hits / positives, hits / count))
    points = [point / 100 for point in range(101)]
    reached = [max((p for recall, p in curve if recall >= point - 1e-12), default=0.0) for point in points]
    return sum(reached) / 101


@settings(deadline=None)
@given(answers, st.sampled_from(COCO_THRESHOLDS))
def test_it_is_the_plain_definition(asked: list[Answer], threshold: float) -> None:
    expected = plain_average_precision(asked, threshold) if asked else 0.0
    assert average_precision(asked, threshold) == pytest.approx(expected)


A, B, ELSEWHERE = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (50.0, 50.0, 60.0, 60.0)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([([A, B], [A, B])], 1.0),
        ([([B, A], [A, B])], 1.0),
        ([([A], [A, B])], 51 / 101),  # recalls 0 to .5 at precision 1, the rest never reached
        ([([A, A], [A])], 1.0),  # the second is wrong, but after the full recall
        ([([ELSEWHERE, A], [A])], 0.5),
        ([([A, ELSEWHERE, B], [A, B])], (51 + 50 * 2 / 3) / 101),
        ([([], [A])], 0.0),
        ([([A], [A]), ([], [B])], 51 / 101),
        # Listed first in its answer: before the second box of the other answer, whatever the order of the questions.
        ([([A, ELSEWHERE], [A]), ([B], [B])], 1.0),
        ([([B], [B]), ([A, ELSEWHERE], [A])], 1.0),
    ],
)
def test_figures_worked_out_by_hand(asked: list[Answer], expected: float) -> None:
    assert average_precision(asked, 0.5) == pytest.approx(expected)


def test_the_mean_over_cocos_thresholds_and_the_loosest() -> None:
    assert COCO_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    near = (0.0, 0.0, 10.0, 7.5)  # IoU 0.75 with A: right at the first six thresholds, the sixth included
    assert TASKS["dense_detection"].corpus_scores([((near,), (A,))]) == {"map": pytest.approx(0.6), "ap50": 1.0}
    assert TASKS["dense_detection"].corpus_scores([(None, (A,))]) == {"map": 0.0, "ap50": 0.0}
