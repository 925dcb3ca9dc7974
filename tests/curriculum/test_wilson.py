"""Wilson's interval against published values and against its definition, solved in another way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.curriculum.wilson import Z, samples_for, wilson


@pytest.mark.parametrize(
    ("passes", "n", "low", "high"),
    [  # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(passes: int, n: int, low: float, high: float) -> None:
    assert wilson(passes, n) == pytest.approx((low, high), abs=5e-5)


def by_bisection(passes: int, n: int, inside: float, outside: float) -> float:
    """Where |passes / n - p| stops being within z standard errors of p, between ``inside`` and ``outside``."""
    for _ in range(80):
        middle = (inside + outside) / 2
        within = (passes / n - middle) ** 2 <= Z * Z * middle * (1 - middle) / n
        inside, outside = (middle, outside) if within else (inside, middle)
    return inside


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_ends_are_where_the_score_test_turns(counts: tuple[int, int]) -> None:
    passes, n = counts
    low, high = wilson(passes, n)
    assert 0 <= low <= passes / n <= high <= 1
    assert low == pytest.approx(by_bisection(passes, n, passes / n, 0.0), abs=1e-9)
    assert high == pytest.approx(by_bisection(passes, n, passes / n, 1.0), abs=1e-9)
    assert wilson(n - passes, n) == pytest.approx((1 - high, 1 - low))


@given(st.floats(0.01, 0.99))
def test_as_many_samples_as_it_takes_and_not_one_more(bound: float) -> None:
    n = samples_for(bound)
    assert wilson(n, n)[0] >= bound - 1e-12
    assert n == 1 or wilson(n - 1, n - 1)[0] < bound
