"""Intervals of test scores: Wilson's where that is exact, wider where answers share a picture, none without a width."""

import numpy as np
import pytest

from curr_reft.curriculum.wilson import Z, wilson
from curr_reft.evaluate.intervals import Interval
from curr_reft.evaluate.score_intervals import score_intervals

RESAMPLES = 4000
NOISE = 0.06  # of a width: what 4000 draws leave of luck, five times over


def one(scores: list[float], differences: bool = False) -> Interval:
    """Of a cell of independent items."""
    items = [(str(n), score) for n, score in enumerate(scores)]
    found, mean = score_intervals({"cell": items}, RESAMPLES, differences=differences)
    cell = found["cell"]
    assert (mean.mean, mean.low, mean.high) == pytest.approx((cell.mean, cell.low, cell.high))
    return cell


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 3), (3, 3), (2, 3), (7, 10), (1, 30), (282, 300)])
def test_of_right_and_wrong_answers_it_is_wilsons(right: int, n: int) -> None:
    low, high = wilson(right, n)
    found = one([1.0] * right + [0.0] * (n - right))
    assert (found.mean, found.clusters) == (right / n, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=NOISE * (high - low))
    if right in (0, n):  # no draw differs, so there is no luck in it
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_of_graded_scores_it_comes_to_the_normal_one() -> None:
    scores = np.random.default_rng(0).beta(8, 2, 5000)
    found = one(list(scores))
    half = Z * scores.std() / 5000**0.5
    assert (found.low, found.high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.0006)


def test_no_item_gained_anything_and_yet_there_is_doubt() -> None:
    """Of 300 pairs none differs: by the rule of three some 3 of 300 may."""
    found = one([0.0] * 300, differences=True)
    assert (found.mean, found.high) == (0, pytest.approx(3 / 300, rel=0.1))
    assert found.low == pytest.approx(-found.high)
    assert one([1.0] * 3, differences=True).low < 0.05  # three of three better may be luck


@pytest.mark.parametrize(("better", "worse", "n"), [(0, 0, 300), (5, 0, 100), (3, 1, 40), (12, 30, 60)])
def test_of_right_and_wrong_pairs_it_is_bonett_and_prices(better: int, worse: int, n: int) -> None:
    """As they write it: one more pair of each kind, in n + 2."""
    one_way, other = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    half = Z * ((one_way + other - (one_way - other) ** 2) / (n + 2)) ** 0.5
    found = one([1.0] * better + [-1.0] * worse + [0.0] * (n - better - worse), differences=True)
    expected = (one_way - other - half, one_way - other + half)
    assert (found.low, found.high) == pytest.approx(expected, abs=NOISE * half)


def test_twenty_questions_about_one_picture_are_not_twenty_items() -> None:
    """All answers to a picture are alike: the interval is that of the pictures."""
    pictures = [1.0] * 6 + [0.0] * 4
    cell = [(f"picture {n}", score) for n, score in enumerate(pictures) for _ in range(20)]
    found, _ = score_intervals({"cell": cell}, RESAMPLES)
    low, high = wilson(6, 10)
    assert (found["cell"].low, found["cell"].high) == pytest.approx((low, high), abs=NOISE * (high - low))
    assert found["cell"].clusters == 10


def test_pictures_of_unequal_numbers_of_questions_against_a_closed_form() -> None:
    """The variance is that of the ratio of two means over pictures (linearised: Cochran 1977, section 6)."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 6, 400)
    scores = [np.full(size, level) for size, level in zip(sizes, rng.random(400), strict=True)]
    cell = [(str(n), float(score)) for n, own in enumerate(scores) for score in own]
    found = score_intervals({"cell": cell}, RESAMPLES)[0]["cell"]
    apart = np.array([own.sum() - found.mean * len(own) for own in scores])
    half = Z * np.sqrt((apart**2).sum()) / sizes.sum()
    assert found.high - found.low == pytest.approx(2 * half, rel=NOISE)


@pytest.mark.parametrize(("shared", "expected"), [(True, 1.0), (False, 0.5**0.5)])
def test_a_mean_over_cells_knows_which_of_them_ask_about_the_same(shared: bool, expected: float) -> None:
    scores = [float(n % 2) for n in range(400)]
    names = ["one", "one"] if shared else ["one", "two"]
    cells = {f"cell {k}": [(f"{name} {n}", s) for n, s in enumerate(scores)] for k, name in enumerate(names)}
    found, mean = score_intervals(cells, RESAMPLES)
    width = found["cell 0"].high - found["cell 0"].low
    assert mean.high - mean.low == pytest.approx(expected * width, rel=NOISE)
    assert mean.clusters == (400 if shared else 800)


def test_cells_that_go_against_each_other_make_a_sure_mean() -> None:
    """What one form gains on an item the other loses: the mean over both hardly varies."""
    scores = [float(n % 2) for n in range(400)]
    cells = {"open": [(str(n), s) for n, s in enumerate(scores)]}
    cells["claim"] = [(name, 1 - score) for name, score in cells["open"]]
    found, mean = score_intervals(cells, RESAMPLES)
    assert mean.high - mean.low < 0.1 * (found["open"].high - found["open"].low)


@pytest.mark.parametrize("n", [6, 40])
def test_cells_that_went_against_each_other_on_a_few_items_leave_doubt(n: int) -> None:
    """As Wilson's interval of n equal means of items has it, that is of n halves: by its width, not by the draws."""
    cells = {"open": [(str(k), float(k % 2)) for k in range(n)]}
    cells["claim"] = [(name, 1 - score) for name, score in cells["open"]]
    _, mean = score_intervals(cells, RESAMPLES)
    halves = one([0.5] * n)
    assert (mean.low, mean.high) == pytest.approx((halves.low, halves.high), abs=NOISE * (halves.high - halves.low))


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_all_cells_wrong_or_all_right(right: float) -> None:
    """The mean lies in its interval, and one end is where no answer can be better or worse."""
    cells = {name: [(f"{name}{n}", right) for n in range(3)] for name in "abc"}
    _, mean = score_intervals(cells, RESAMPLES)
    assert mean.mean == right
    assert (mean.low if right == 0 else mean.high) == right
    assert 0.2 < mean.high - mean.low < 0.56  # nine answers know more than three
    together = {name: [(str(n), right) for n in range(3)] for name in "abc"}
    _, alike = score_intervals(together, RESAMPLES)
    assert alike.high - alike.low == pytest.approx(0.5615, abs=1e-3)  # of three pictures, as of one cell


def test_equal_seeds_give_equal_intervals() -> None:
    cells = {name: [(f"{name}{n}", (n * 7 % 10) / 10) for n in range(1000)] for name in "abc"}
    assert score_intervals(cells, 100, seed=4) == score_intervals(cells, 100, seed=4)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1.0001, -0.1])
def test_what_is_no_score_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"math: .* is no score from 0 to 1"):
        score_intervals({"math": [("a", 1.0), ("b", score)]}, 100)
