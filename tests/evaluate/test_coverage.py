"""How often the 95 % intervals hold the truth, counted: of few items and more, graded or not, sharing pictures or not.

The truth of each is known because the scores are drawn here. What the percentile bootstrap would hold stands beside it.
"""

from collections.abc import Callable

import numpy as np
import pytest

from curr_reft.evaluate.score_intervals import Scores, score_intervals

TRIALS, RESAMPLES = 400, 120
LUCK = 0.033  # three standard deviations of a count of 400 that are right 95 times in 100

Draw = Callable[[np.random.Generator, int], np.ndarray]
SCORES: dict[str, tuple[Draw, float]] = {
    "right or wrong, 0.5": (lambda rng, n: rng.binomial(1, 0.5, n), 0.5),
    "right or wrong, 0.9": (lambda rng, n: rng.binomial(1, 0.9, n), 0.9),
    "graded": (lambda rng, n: rng.beta(8, 2, n), 0.8),
    "missed one time in five, else graded": (lambda rng, n: rng.binomial(1, 0.8, n) * rng.beta(16, 4, n), 0.64),
    "missed mostly": (lambda rng, n: rng.binomial(1, 0.3, n) * rng.beta(8, 4, n), 0.2),
}
GAINS: dict[str, tuple[Draw, float]] = {
    "few gain, fewer lose": (lambda rng, n: rng.choice([1, -1, 0], n, p=[0.05, 0.01, 0.94]), 0.04),
    "many change, none better": (lambda rng, n: rng.choice([1, -1, 0], n, p=[0.2, 0.2, 0.6]), 0.0),
    "a little on each": (lambda rng, n: np.clip(rng.normal(0.02, 0.1, n), -1, 1), 0.02),
}


def covered(draw: Draw, truth: float, n: int, differences: bool) -> tuple[float, float]:
    """(how often ours holds ``truth``, how often the percentile bootstrap does)."""
    rng = np.random.default_rng([n, round(truth * 1000)])
    ours = theirs = 0
    for trial in range(TRIALS):
        scores = draw(rng, n).astype(float)
        cell: Scores = [(str(number), score) for number, score in enumerate(scores)]
        found = score_intervals({"cell": cell}, RESAMPLES, differences=differences, seed=trial)[0]["cell"]
        ours += found.low <= truth <= found.high
        low, high = np.quantile(scores[rng.integers(0, n, (RESAMPLES, n))].mean(axis=1), [0.025, 0.975])
        theirs += low <= truth <= high
    return ours / TRIALS, theirs / TRIALS


@pytest.mark.parametrize("n", [3, 10, 30])
@pytest.mark.parametrize("kind", [*SCORES, *GAINS])
def test_it_holds_the_truth_as_often_as_it_says(kind: str, n: int) -> None:
    draw, truth = {**SCORES, **GAINS}[kind]
    ours, theirs = covered(draw, truth, n, kind in GAINS)
    print(f"{kind}, {n} items: {ours:.3f}, percentile bootstrap {theirs:.3f}")  # shown by pytest -s
    # Right and wrong answers come in steps: of ten items no interval is right exactly 95 times in 100, and Wilson's own
    # is right 93 times where 9 in 10 are right (Brown, Cai and DasGupta 2001, Statistical Science 16).
    assert ours >= 0.93 - LUCK
    if n == 3:
        assert theirs < 0.93, "the percentile bootstrap would do: this module is not needed"


@pytest.mark.parametrize("pictures", [10, 40])
def test_it_holds_the_truth_where_cells_ask_about_the_same_pictures(pictures: int) -> None:
    """Every picture is asked about in two cells, three times in each, and is hard or easy as a whole."""
    rng = np.random.default_rng(pictures)
    held = as_if_alone = 0
    for trial in range(TRIALS):
        ease = rng.beta(1, 1, pictures)
        answers = [rng.binomial(1, np.repeat(ease, 3)) for _ in range(2)]
        cells: dict[str, Scores] = {
            f"cell {k}": [(str(n // 3), float(right)) for n, right in enumerate(own)] for k, own in enumerate(answers)
        }
        alone: dict[str, Scores] = {k: [(f"{k} {n}", s) for n, (_, s) in enumerate(own)] for k, own in cells.items()}
        _, mean = score_intervals(cells, RESAMPLES, seed=trial)
        _, wrong = score_intervals(alone, RESAMPLES, seed=trial)
        held += mean.low <= 0.5 <= mean.high
        as_if_alone += wrong.low <= 0.5 <= wrong.high
    print(f"{pictures} pictures: {held / TRIALS:.3f}, each item by itself {as_if_alone / TRIALS:.3f}")
    assert held / TRIALS >= 0.93 - LUCK
    assert as_if_alone / TRIALS < 0.85
