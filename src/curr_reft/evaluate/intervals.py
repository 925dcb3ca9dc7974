"""Means of pass rates with 95 % bootstrap intervals: of a task, and of the mean over tasks (each resampled by itself).

A task is told from chance by them (``profile.py``), with ten questions or more. Test scores, of any number of items,
have those of ``score_intervals.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curr_reft.curriculum.wilson import wilson

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float
    clusters: int | None = None  # how many are independent, where that was counted


def bootstrap_means(values: Sequence[float], resamples: int, seed: int) -> np.ndarray:
    """Means of ``resamples`` draws with replacement, float64 (resamples,)."""
    data = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    return np.array([data[rng.integers(0, len(data), len(data))].mean() for _ in range(resamples)])


def interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of ``values``, shares from 0 to 1, with its interval. ``values`` is not empty.

    Where all are 0, or all 1, no draw differs and the bootstrap knows no doubt: the interval is Wilson's.
    """
    mean = float(np.mean(values))
    if mean in (0, 1):
        low, high = wilson(int(mean) * len(values), len(values))
        return Interval(mean=mean, low=low, high=high)
    return _interval(mean, bootstrap_means(values, resamples, seed))


def mean_interval(by_task: Mapping[str, Sequence[float]], resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of the tasks' means, with its interval."""
    means = [bootstrap_means(values, resamples, seed + number) for number, values in enumerate(by_task.values())]
    centre = float(np.mean([np.mean(values) for values in by_task.values()]))
    return _interval(centre, np.mean(means, axis=0))


def _interval(mean: float, draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean=mean, low=float(low), high=float(high))
