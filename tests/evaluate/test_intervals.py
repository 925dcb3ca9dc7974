import math

import numpy as np
import pytest

from curr_reft.evaluate.intervals import interval, mean_interval


def test_interval_of_a_proportion_is_near_the_normal_one() -> None:
    values = [1.0] * 60 + [0.0] * 40
    found = interval(values, resamples=4000)
    half = 1.96 * math.sqrt(0.6 * 0.4 / 100)
    assert found.mean == pytest.approx(0.6)
    assert found.low == pytest.approx(0.6 - half, abs=0.015)
    assert found.high == pytest.approx(0.6 + half, abs=0.015)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        found = interval(rng.binomial(1, 0.7, 80).astype(float).tolist(), resamples=400, seed=trial)
        covered += found.low <= 0.7 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_the_mean_over_tasks_weighs_tasks_not_items() -> None:
    found = mean_interval({"a": [1.0] * 90, "b": [0.0] * 10})
    assert found.mean == 0.5
    assert (found.low, found.high) == (0.5, 0.5)


def test_of_questions_that_are_all_wrong_or_all_right_nobody_is_sure() -> None:
    assert (interval([0.0] * 60).low, interval([0.0] * 60).high) == (0, pytest.approx(0.0602, abs=1e-4))
    assert (interval([1.0] * 60).low, interval([1.0] * 60).high) == (pytest.approx(0.9398, abs=1e-4), 1)


def test_equal_seeds_give_equal_intervals() -> None:
    assert interval([0.0, 1.0, 1.0], seed=4) == interval([0.0, 1.0, 1.0], seed=4)
