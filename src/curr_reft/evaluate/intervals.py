"""Means of pass rates with 95 % bootstrap intervals: of a task, and of the mean over tasks (each resampled by itself).

A task is told from chance by them (``profile.py``), with ten questions or more. Test scores, of any number of items,
have those of ``score_intervals.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curr_reft.curriculum.wilson import wilson
from curr_reft.errors import DamagedError

LEVEL = 0.95
ROUNDING = 1e-9  # by which sums of equal numbers in another order may differ


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and the 95 % interval around it."""

    mean: float
    low: float
    high: float
    clusters: int | None = None  # how many are independent, where that was counted


def require_inside(found: Any, name: str = "") -> None:
    """Raise DamagedError where a mean lies outside its own interval, anywhere in ``found`` (nested records with ``low``
    and ``high`` around ``score``, ``mean`` or ``pass_rate``). Asked before a number goes into a table or a file."""
    if not isinstance(found, Mapping):
        return
    for key in ("score", "mean", "pass_rate"):
        low, value, high = (found.get(each) for each in ("low", key, "high"))
        if not (isinstance(low, int | float) and isinstance(value, int | float) and isinstance(high, int | float)):
            continue
        if not low - ROUNDING <= value <= high + ROUNDING:
            what = f"{name or 'a result'}: the {key.replace('_', ' ')} {value} is outside its own interval"
            remedy = "the file it comes from was changed; put it back, or remove it and make it again"
            raise DamagedError(f"{what} [{low}, {high}]", remedy)
    for key, value in found.items():
        require_inside(value, f"{name} {key}".strip())


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
