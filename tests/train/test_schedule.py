import math

import pytest

from curr_reft.train.config import OptimizerConfig
from curr_reft.train.schedule import learning_rate


def test_linear_decay_starts_at_the_peak_and_ends_above_zero() -> None:
    config = OptimizerConfig(lr=1.0, schedule="linear")
    assert [learning_rate(config, step, 4) for step in (1, 2, 3, 4)] == [1.0, 0.75, 0.5, 0.25]


def test_warm_up_rises_linearly_then_cosine_falls() -> None:
    config = OptimizerConfig(lr=1.0, schedule="cosine", warmup=0.2)
    rates = [learning_rate(config, step, 10) for step in range(1, 11)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == 1.0
    assert rates[6] == pytest.approx(0.5 * (1 + math.cos(math.pi * 4 / 8)))
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)


def test_constant_stays() -> None:
    assert {learning_rate(OptimizerConfig(lr=0.1, schedule="constant"), step, 9) for step in range(1, 10)} == {0.1}
