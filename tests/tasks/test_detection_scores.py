"""How a box is paid: threshold, IoU or GIoU, and a threshold that tightens over a stage. Evaluation stays strict."""

from typing import Any

import pydantic
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curr_reft.data.item import Box
from curr_reft.tasks import TASKS, TaskOptions
from curr_reft.tasks.boxes import iou, is_valid
from curr_reft.tasks.config import DenseDetectionConfig, DetectionConfig, TasksConfig
from curr_reft.tasks.overlap import giou

DETECTION = TASKS["detection"]
TRUTH, HALF = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 5.0)

corners = st.integers(0, 20)
boxes = st.tuples(corners, corners, corners, corners).filter(lambda box: box[0] < box[2] and box[1] < box[3])
any_number = st.floats() | st.integers(-(10**9), 10**9) | st.sampled_from([0.0, -0.0, 1e7, float("nan"), float("inf")])
any_boxes = st.tuples(any_number, any_number, any_number, any_number)


def options(progress: float = 1.0, **section: Any) -> TaskOptions:
    return TaskOptions(tasks=TasksConfig(detection=DetectionConfig(**section)), progress=progress)


def pixels(box: Box) -> set[tuple[int, int]]:
    """The unit squares of a box with whole corners: areas by counting, independent of any formula."""
    return {(x, y) for x in range(int(box[0]), int(box[2])) for y in range(int(box[1]), int(box[3]))}


@given(boxes, boxes)
def test_giou_is_that_of_counted_pixels(first: Box, second: Box) -> None:
    shared, union = len(pixels(first) & pixels(second)), len(pixels(first) | pixels(second))
    edges = list(zip(first, second, strict=True))
    hull = len(pixels((min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))))
    assert iou(first, second) == pytest.approx(shared / union)
    assert giou(first, second) == pytest.approx(shared / union - (hull - union) / hull)


@given(any_boxes, any_boxes)
def test_giou_is_symmetric_in_range_and_never_above_iou(first: Box, second: Box) -> None:
    value = giou(first, second)
    assert value == pytest.approx(giou(second, first), abs=1e-12)
    assert -1.0 <= value <= iou(first, second) <= 1.0
    if is_valid(first):
        assert giou(first, first) == 1.0
    else:
        assert value == -1.0


@given(boxes, boxes)
def test_giou_is_the_iou_where_one_box_holds_the_other_and_negative_where_they_do_not_meet(
    first: Box, second: Box
) -> None:
    outer = (min(first[0], second[0]), min(first[1], second[1]), max(first[2], second[2]), max(first[3], second[3]))
    assert giou(first, outer) == pytest.approx(iou(first, outer))
    if iou(first, second) == 0.0:
        assert giou(first, second) <= 0.0


@given(any_boxes, boxes, st.sampled_from(["threshold", "iou", "giou"]), st.floats(0, 1))
def test_every_score_is_in_range_and_1_for_the_truth(given_box: Box, truth: Box, score: str, progress: float) -> None:
    chosen = options(progress, score=score, schedule=((0.25, 0.9),) if score == "threshold" else ())
    assert 0.0 <= DETECTION.score(given_box, truth, chosen) <= 1.0
    assert DETECTION.score(truth, truth, chosen) == 1.0


def test_the_scores_of_one_box() -> None:
    assert DETECTION.score(HALF, TRUTH, options()) == 0.0, "0.5 is not above 0.5"
    assert DETECTION.score(HALF, TRUTH, options(threshold=0.3)) == 1.0
    assert DETECTION.score(HALF, TRUTH, options(score="iou")) == 0.5
    assert DETECTION.score(HALF, TRUTH, options(score="giou")) == 0.5, "the union fills the hull"
    aside = (5.0, 5.0, 15.0, 15.0)  # shared 25, union 175, hull 225
    assert DETECTION.score(aside, TRUTH, options(score="giou")) == pytest.approx(0.0)
    assert DETECTION.score(aside, TRUTH, options(score="iou")) == pytest.approx(25 / 175)


def test_giou_pays_nothing_for_the_box_beside_and_little_for_the_whole_image() -> None:
    """(1 + GIoU) / 2 would pay the first 0.5 and the second 0.5005."""
    assert DETECTION.score((10.0, 0.0, 20.0, 10.0), TRUTH, options(score="giou")) == 0.0
    assert DETECTION.score((0.0, 0.0, 1000.0, 100.0), TRUTH, options(score="giou")) == pytest.approx(0.001)


@pytest.mark.parametrize("section", [{"threshold": 0.1}, {"score": "iou"}, {"score": "giou"}, {"threshold": 0.99}])
def test_evaluation_is_strict_whatever_is_paid(section: dict[str, Any]) -> None:
    assert not DETECTION.correct(HALF, TRUTH, options(**section))
    assert DETECTION.correct((0.0, 0.0, 10.0, 5.001), TRUTH, options(**section))
    paid = TasksConfig(detection=DetectionConfig(**section))
    assert paid.for_evaluation().detection == DetectionConfig(score="iou")


def test_a_schedule_tightens_at_its_shares() -> None:
    # V-Triune's dynamic IoU reward (arXiv 2505.18129): 0.85, then 0.95 from a tenth on, 0.99 from a quarter on.
    section = DetectionConfig(schedule=((0.0, 0.85), (0.1, 0.95), (0.25, 0.99)))
    held = [section.threshold_at(step / 40) for step in range(40)]
    assert held == [0.85] * 4 + [0.95] * 6 + [0.99] * 30
    assert section.threshold_at(1.0) == 0.99
    late = DetectionConfig(threshold=0.4, schedule=((0.5, 0.75),))
    assert [late.threshold_at(progress) for progress in (0.0, 0.499, 0.5, 1.0)] == [0.4, 0.4, 0.75, 0.75]
    box = (0.0, 0.0, 10.0, 6.0)
    assert DETECTION.score(box, TRUTH, options(0.49, schedule=((0.0, 0.5), (0.5, 0.75)))) == 1.0
    assert DETECTION.score(box, TRUTH, options(0.5, schedule=((0.0, 0.5), (0.5, 0.75)))) == 0.0


steps = st.lists(st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)), max_size=5)


@given(steps, st.floats(0, 1), st.floats(0, 1))
def test_what_a_schedule_accepts_never_falls(schedule: list[tuple[float, float]], early: float, late: float) -> None:
    assume(early <= late)
    try:
        section = DetectionConfig(schedule=tuple(schedule))
    except pydantic.ValidationError:
        held = [threshold for _, threshold in schedule]
        shares = [share for share, _ in schedule]
        before = [0.5] if shares and shares[0] > 0 else []
        assert shares != sorted(set(shares)) or before + held != sorted(before + held)
        return
    assert section.threshold_at(early) <= section.threshold_at(late)


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({"schedule": ((0.5, 0.6), (0.5, 0.7))}, "shares must rise"),
        ({"schedule": ((0.5, 0.7), (0.2, 0.8))}, "shares must rise"),
        ({"schedule": ((0.0, 0.7), (0.2, 0.6))}, "thresholds must not fall"),
        ({"schedule": ((0.5, 0.4),)}, "before the first share, threshold holds"),
        ({"schedule": ((1.0, 0.6),)}, r"share 1 is not in \[0, 1\)"),
        ({"schedule": ((0.5, 1.0),)}, r"threshold 1 is not in \[0, 1\)"),
        ({"schedule": ((float("nan"), 0.6),)}, "share nan"),
        ({"schedule": ((0.5,),)}, "Field required"),
        ({"score": "iou", "schedule": ((0.5, 0.6),)}, "score: iou has none"),
        ({"score": "giou", "schedule": ((0.5, 0.6),)}, "score: giou has none"),
        ({"score": "soft"}, "'threshold', 'iou' or 'giou'"),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused_with_its_rule(section: dict[str, Any], rule: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=rule):
        DetectionConfig(**section)


def test_boxes_matched_by_iou_have_no_threshold_to_tighten() -> None:
    with pytest.raises(pydantic.ValidationError, match="score: iou has none"):
        DenseDetectionConfig(score="iou", schedule=((0.5, 0.6),))
