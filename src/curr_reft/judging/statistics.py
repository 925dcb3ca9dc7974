"""How two lists agree. Every function is None where its question has no answer (one class, one value)."""

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 0.95


def kappa(said: np.ndarray, true: np.ndarray) -> float | None:
    """Cohen's kappa of two lists of booleans (Cohen 1960): agreement beyond that of chance."""
    agreed = float(np.mean(said == true))
    chance = float(said.mean() * true.mean() + (1 - said.mean()) * (1 - true.mean()))
    return None if chance == 1 else (agreed - chance) / (1 - chance)


def spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    """Rank correlation; ties share the mean of their ranks."""
    return _pearson(ranks(a), ranks(b))


def partial_spearman(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float | None:
    """Rank correlation of ``a`` and ``b`` with what both owe to ``given`` taken out."""
    ab, ag, bg = spearman(a, b), spearman(a, given), spearman(b, given)
    if ab is None:
        return None
    if ag is None or bg is None:  # given is the same everywhere: nothing to take out
        return ab
    rest = (1 - ag**2) * (1 - bg**2)
    return None if rest <= 1e-12 else (ab - ag * bg) / rest**0.5


def auc(scores: np.ndarray, true: np.ndarray) -> float | None:
    """How often a right answer scores above a wrong one, ties half (the area under the ROC curve)."""
    right, wrong = int(true.sum()), int((~true).sum())
    if not right or not wrong:
        return None
    return float((ranks(scores)[true].sum() - right * (right + 1) / 2) / (right * wrong))


def ranks(values: np.ndarray) -> np.ndarray:
    """From 1, ties sharing their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def with_interval(
    measure: Callable[..., float | None], *lists: np.ndarray, resamples: int, seed: int
) -> dict[str, float | None]:
    """{"value", "low", "high"}: the measure, and its percentile bootstrap interval over rows.

    Draws on which the measure has no answer are left out of the interval.
    """
    rng, n = np.random.default_rng(seed), len(lists[0])
    drawn = [rng.integers(0, n, n) for _ in range(resamples)]
    found = [measure(*(each[rows] for each in lists)) for rows in drawn]
    low, high = interval_of([each for each in found if each is not None])
    return {"value": measure(*lists), "low": low, "high": high}


def interval_of(draws: Sequence[float]) -> tuple[float | None, float | None]:
    """The middle 95 % of bootstrap draws."""
    if not len(draws):
        return None, None
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean(values: np.ndarray) -> float:
    """The mean as a plain number."""
    return float(values.mean())


def _pearson(a: np.ndarray, b: np.ndarray) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return None if scale == 0 else float(a @ b) / scale
