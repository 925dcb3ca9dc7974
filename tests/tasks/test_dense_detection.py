"""Lists of boxes: every true box once, in any order; duplicates, floods and near misses are not paid in full."""

import itertools
import random
from typing import Any, Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.data.item import Box, Item
from curr_reft.tasks import TASKS, Pool, TaskOptions
from curr_reft.tasks.boxes import iou
from curr_reft.tasks.config import DenseDetectionConfig, TasksConfig
from curr_reft.tasks.dense_detection import MOST_BOXES, MOST_PER_TRUTH, Boxes

DENSE = TASKS["dense_detection"]
Score = Literal["f1", "precision", "recall", "iou"]
SCORES = get_args(Score)
A, B, C = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (40.0, 40.0, 60.0, 60.0)

corners, sides = st.integers(0, 30), st.integers(1, 20)
box = st.tuples(corners, corners, sides, sides).map(
    lambda b: (float(b[0]), float(b[1]), b[0] + b[2] + 0.5, b[1] + b[3] + 0.5)
)
box_lists = st.lists(box, min_size=1, max_size=5).map(tuple)


def options(score: Score = "f1", progress: float = 1.0, **section: Any) -> TaskOptions:
    return TaskOptions(
        tasks=TasksConfig(dense_detection=DenseDetectionConfig(score=score, **section)), progress=progress
    )


def earned(given_boxes: Boxes, truth: Boxes, score: Score = "f1") -> float:
    return DENSE.score(given_boxes, truth, options(score))


@given(box_lists, st.sampled_from(SCORES), st.randoms(use_true_random=False))
def test_the_truth_as_written_in_any_order_earns_1(truth: Boxes, score: Score, rng: random.Random) -> None:
    parsed = DENSE.parse(DENSE.write(truth))
    assert parsed == truth
    shuffled = tuple(rng.sample(truth, len(truth)))
    assert DENSE.score(shuffled, truth, options(score)) == pytest.approx(1.0)
    assert DENSE.score(truth, truth, options(score)) == 1.0, "exactly, as every truth must"
    assert DENSE.correct(shuffled, truth, options(score))
    assert DENSE.read_truth(DENSE.claim(truth)) == truth
    assert DENSE.read_truth(DENSE.write(truth)) == truth


@given(box_lists, box_lists)
def test_scores_are_those_of_the_best_matching_among_all(given_boxes: Boxes, truth: Boxes) -> None:
    few, many = sorted((given_boxes, truth), key=len)
    ways = [[iou(a, b) for a, b in zip(few, chosen, strict=True)] for chosen in itertools.permutations(many, len(few))]
    hits = max(sum(value > 0.5 for value in way) for way in ways)
    n, m = len(given_boxes), len(truth)
    flood = n > MOST_PER_TRUTH * m
    assert earned(given_boxes, truth, "precision") == (0 if flood else hits / n)
    assert earned(given_boxes, truth, "recall") == (0 if flood else hits / m)
    assert earned(given_boxes, truth, "f1") == pytest.approx(0 if flood else 2 * hits / (n + m))
    assert earned(given_boxes, truth, "iou") == pytest.approx(0 if flood else max(map(sum, ways)) / max(n, m))
    assert DENSE.correct(given_boxes, truth, options()) == (n == m == hits)


def test_a_box_said_twice_is_once_too_many() -> None:
    assert earned((A, A), (A, B)) == 0.5
    assert earned((A, B, B), (A, B)) == pytest.approx(0.8)
    assert earned((A, B, B), (A, B), "recall") == 1.0
    assert earned((A, B, B), (A, B), "precision") == pytest.approx(2 / 3)
    assert earned((A, B, B), (A, B), "iou") == pytest.approx(2 / 3)
    assert not DENSE.correct((A, B, B), (A, B), options())
    assert not DENSE.correct((A,), (A, B), options())


def test_a_flood_of_boxes_earns_nothing_even_as_recall() -> None:
    grid = tuple((float(x), float(y), x + 10.0, y + 10.0) for x in range(0, 100, 10) for y in range(0, 100, 10))
    truth = (A, B, (70.0, 70.0, 80.0, 80.0))
    assert set(truth) <= set(grid)
    for score in SCORES:
        assert earned(grid, truth, score) == 0.0
    assert earned(grid[: MOST_PER_TRUTH * len(truth)], truth, "recall") > 0.0, "the bound is where it is said to be"


def test_one_box_around_everything_earns_little() -> None:
    around = (0.0, 0.0, 60.0, 60.0)
    assert earned((around,), (A, B, C)) == 0.0
    assert earned((around,), (A, B, C), "iou") == pytest.approx(400 / 3600 / 3)


def test_the_threshold_is_strict_and_tightens() -> None:
    half, near = (0.0, 0.0, 10.0, 5.0), (0.0, 0.0, 10.0, 7.0)
    assert earned((half,), (A,)) == 0.0
    assert DENSE.score((half,), (A,), options(threshold=0.4)) == 1.0
    assert not DENSE.correct((half,), (A,), options(threshold=0.4)), "evaluation keeps 0.5"
    tightened = {"schedule": ((0.0, 0.5), (0.5, 0.75))}
    assert DENSE.score((near,), (A,), options(progress=0.2, **tightened)) == 1.0
    assert DENSE.score((near,), (A,), options(progress=0.5, **tightened)) == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        '[{"bbox_2d": [0, 0, 10, 10], "label": "dog"}, {"bbox_2d": [20, 0, 30, 10], "label": "dog"}]',
        '```json\n[\n\t{"bbox_2d": [20, 0, 30, 10]},\n\t{"bbox_2d": [0, 0, 10, 10]}\n]\n```',
        "[[0, 0, 10, 10], [20, 0, 30, 10]]",
        "[[0.0,0.0,10.0,10.0],[20.0,0.0,30.0,10.0]]",
        "{'boxes': [{'bbox': [0, 0, 10, 10]}, {'bbox': [20, 0, 30, 10]}]}",
        "  [ [20,0,30,10],\n[0,0,10,10] ]  ",
    ],
)
def test_lists_as_models_write_them(answer: str) -> None:
    parsed = DENSE.parse(answer)
    assert parsed is not None
    assert DENSE.correct(parsed, (A, B), options())
    assert DENSE.well_formed(answer)


@pytest.mark.parametrize(
    "answer", ["", "[]", "two dogs", "[[0, 0, 10]]", "[[0, 0, 10, 10], 3]", "[[1,2,3,NaN]]", "yes"]
)
def test_what_is_no_list_of_boxes_is_not_read(answer: str) -> None:
    assert DENSE.parse(answer) is None
    assert not DENSE.well_formed(answer)


def test_more_boxes_than_can_be_matched_are_not_read() -> None:
    assert len(DENSE.parse(DENSE.write((A,) * MOST_BOXES)) or ()) == MOST_BOXES
    assert DENSE.parse(DENSE.write((A,) * (MOST_BOXES + 1))) is None
    with pytest.raises(ValueError, match="301 boxes are too many"):
        DENSE.read_truth([list(A)] * (MOST_BOXES + 1))


def test_an_empty_or_inverted_box_is_one_too_many() -> None:
    parsed = DENSE.parse("[[0,0,10,10],[5,5,5,9],[9,9,3,3]]")
    assert parsed is not None
    assert earned(parsed, (A,)) == 0.5


@given(st.text() | st.lists(st.lists(st.integers() | st.floats() | st.text(), max_size=5), max_size=4).map(str))
def test_no_text_makes_it_raise(text: str) -> None:
    parsed = DENSE.parse(text)
    assert isinstance(DENSE.well_formed(text), bool)
    for score in SCORES if parsed is not None else ():
        assert 0.0 <= earned(parsed, (A, B), score) <= 1.0


@pytest.mark.parametrize(
    ("raw", "truth"),
    [
        ([[0, 0, 10, 10], [20, 0, 30, 10]], (A, B)),
        ([{"bbox_2d": [0, 0, 10, 10]}, {"bbox": [20, 0, 30, 10]}], (A, B)),
        ("[[0,0,10,10],[20,0,30,10]]", (A, B)),
        ([0, 0, 10, 10], (A,)),
        ({"bbox_2d": [0, 0, 10, 10]}, (A,)),
        ([[0, 0, 10, 10]], (A,)),
    ],
)
def test_truths_of_rows(raw: Any, truth: Boxes) -> None:
    assert DENSE.read_truth(raw) == truth


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([], "at least one box"),
        ("[]", "holds no boxes"),
        ("none", "holds no boxes"),
        ([[0, 0, 10]], "four numbers"),
        ([[0, 0, 10, 10], [5, 5, 5, 9]], "box 2 of 2, .5,5,5,9., is empty"),
        ([[0, 0, 10, 10], "dog"], "is no box"),
        (7, "is no box"),
        (None, "is no box"),
    ],
)
def test_what_is_no_truth_is_refused_with_a_reason(raw: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DENSE.read_truth(raw)


def item(truth: Boxes, distractors: tuple[Boxes, ...] = ()) -> Item:
    return Item(id="a", task="dense_detection", question="find all dogs", truth=truth, distractors=distractors)


POOL = Pool(bounds=(0.0, 0.0, 200.0, 200.0))


@settings(deadline=None)
@given(box_lists, st.integers(0, 2**32), st.booleans())
def test_false_lists_are_wrong_for_the_truth_and_for_each_other(truth: Boxes, seed: int, apart: bool) -> None:
    n = 3 if apart else 1
    claims = DENSE.false_claims(item(truth, ((C,),)), POOL, random.Random(seed), n, apart)
    assert len(claims) == n
    listed: list[Any] = [truth, *claims] if apart else [truth, claims[0]]
    for one, other in itertools.permutations(listed, 2):
        assert not DENSE.correct(one, other, options())
    assert claims == DENSE.false_claims(item(truth, ((C,),)), POOL, random.Random(seed), n, apart)
    for claim in claims:
        assert DENSE.parse(DENSE.write(claim)) == claim
        assert all(0 <= x1 < x2 <= 200 and 0 <= y1 < y2 <= 200 for x1, y1, x2, y2 in claim)


def test_false_lists_are_of_three_kinds_and_use_other_objects_first() -> None:
    kinds, added = set(), 0
    for seed in range(60):
        [claim] = DENSE.false_claims(item((A, B), ((C,),)), POOL, random.Random(seed), 1)
        kind = DENSE.claim_kind(item((A, B)), claim, POOL)
        kinds.add(kind)
        if kind == "a box added":
            added += 1
            assert set(claim) == {A, B, C}
    assert kinds == {"a box missing", "a box moved", "a box added"}
    assert added > 5


def test_the_right_list_is_not_the_one_most_like_the_others() -> None:
    """A reader without the image who picks the list nearest to all others must do no better than the draw."""

    def shared(one: Boxes, other: Boxes) -> float:
        return earned(one, other)

    right = 0
    rounds = 400
    for seed in range(rounds):
        rng = random.Random(seed)
        lists: list[Any] = [(A, B, C), *DENSE.false_claims(item((A, B, C)), POOL, rng, 3, apart=True)]
        assert len(lists) == 4
        nearest = max(lists, key=lambda one: (sum(shared(one, other) for other in lists), rng.random()))
        right += nearest == (A, B, C)
    assert right / rounds < 0.4, "changes of the truth alone would make this nearly 1"


def test_a_crowded_image_has_fewer_false_lists_and_none_that_is_right() -> None:
    whole: Box = (0.0, 0.0, 200.0, 200.0)
    claims = DENSE.false_claims(item((whole,)), POOL, random.Random(0), 3, apart=True)
    assert all(not DENSE.correct(claim, (whole,), options()) for claim in claims)
