"""IoU against an independent oracle, and how boxes are read and written."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.data.item import Box
from curr_reft.tasks import TASKS, TaskOptions
from curr_reft.tasks.boxes import iou, is_valid, read_box, round_box, write_box

DETECTION = TASKS["detection"]
OPTIONS = TaskOptions()


def raster_iou(first: tuple[int, ...], second: tuple[int, ...]) -> Fraction:
    """The oracle: half-open boxes as sets of pixels, counted."""

    def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    a, b = pixels(first), pixels(second)
    return Fraction(len(a & b), len(a | b))


def spans(limit: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(0, limit - 1), st.integers(1, limit)).filter(lambda s: s[0] < s[1])


integer_boxes = st.tuples(spans(12), spans(12)).map(lambda s: (s[0][0], s[1][0], s[0][1], s[1][1]))
numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**9), 10**9).map(float)
any_boxes = st.tuples(numbers, numbers, numbers, numbers)


@given(integer_boxes, integer_boxes)
def test_iou_counts_pixels(first: Box, second: Box) -> None:
    assert iou(first, second) == pytest.approx(float(raster_iou(first, second)))


@given(integer_boxes, integer_boxes, st.floats(0.001, 1000), st.floats(-500, 500))
def test_iou_does_not_depend_on_scale_and_place(first: Box, second: Box, scale: float, shift: float) -> None:
    def moved(box: Box) -> Box:
        x1, y1, x2, y2 = (value * scale + shift for value in box)
        return (x1, y1, x2, y2)

    assert iou(moved(first), moved(second)) == pytest.approx(iou(first, second), abs=1e-6)


@given(any_boxes, any_boxes)
def test_iou_is_symmetric_and_between_0_and_1(first: Box, second: Box) -> None:
    assert iou(first, second) == iou(second, first)
    assert 0.0 <= iou(first, second) <= 1.0
    assert iou(first, first) == float(is_valid(first))


@given(any_boxes)
def test_a_written_box_is_read_back(box: Box) -> None:
    text = DETECTION.write(box) if is_valid(box) else "[0,0,0,0]"
    assert DETECTION.parse(text) == (tuple(map(float, box)) if is_valid(box) else None)


@given(st.text() | st.text(alphabet="[]{}\",:'0123456789.-eE box_2dNaInfty`", max_size=60))
def test_no_text_makes_the_parser_raise(text: str) -> None:
    box = DETECTION.parse(text)
    assert box is None or is_valid(box)
    if box is not None:
        assert DETECTION.score(box, (0.0, 0.0, 10.0, 10.0), OPTIONS) in (0.0, 1.0)


def test_written_as_compact_json_without_decimal_zeros() -> None:
    assert DETECTION.write((14.0, 28.0, 42.0, 56.0)) == '{"bbox_2d":[14,28,42,56]}'
    assert DETECTION.claim((14.0, 28.0, 42.0, 56.0)) == "[14,28,42,56]" == DETECTION.option((14, 28, 42, 56))
    assert write_box((0.125, 0.5, 1.0, 0.75)) == "[0.125,0.5,1,0.75]"


def test_threshold_is_strict() -> None:
    truth, half = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 5.0)
    assert iou(truth, half) == 0.5
    assert DETECTION.score(half, truth, OPTIONS) == 0.0
    assert DETECTION.score((0.0, 0.0, 10.0, 5.001), truth, OPTIONS) == 1.0


def test_rounding_keeps_inside_the_frame() -> None:
    assert round_box((-0.4, 3.6, 99.7, 100.2), (0.0, 0.0, 99.0, 100.0)) == (0.0, 4.0, 99.0, 100.0)
    assert round_box((0.12345, 0.5, 0.99999, 1.0004), (0.0, 0.0, 1.0, 1.0)) == (0.123, 0.5, 1.0, 1.0)


@pytest.mark.parametrize("raw", [(1, 2, 3, 4), [1, 2, 3, 4], [[1, 2, 3, 4]], {"bbox_2d": [1, 2, 3, 4]}, "[1,2,3,4]"])
def test_truths_are_read_from_numbers_objects_and_text(raw: object) -> None:
    assert DETECTION.read_truth(raw) == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        5,
        "",
        "a box",
        [1, 2, 3],
        [1, 2, 3, "4"],
        [True, 2, 3, 4],
        [3, 2, 1, 4],
        [1, 2, math.nan, 4],
        {"a": 1},
        {"box": [1, 2, 3, 4], "bbox": [1, 2, 3, 4]},
        [10**400, 0, 1, 1],
        "[[1,2,3,4],[1,2,3,4]]",
    ],
)
def test_what_is_no_truth_is_refused_with_a_reason(raw: object) -> None:
    with pytest.raises(ValueError, match=r".{10,}"):
        DETECTION.read_truth(raw)


def test_deep_nesting_is_no_box() -> None:
    assert read_box("[" * 3900) is None
    assert read_box('{"a":' * 650 + "[1,2,3,4]" + "}" * 650) is None
