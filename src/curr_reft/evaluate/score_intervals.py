"""95 % intervals of mean scores, and of mean differences of two models: of each cell (a task, a domain), and of the
mean over cells. Few items make them wide.

Clusters of items (``clusters.py``) are drawn with replacement, all answers to a cluster together and all cells at once
(cluster bootstrap: Field and Welsh 2007, J. R. Stat. Soc. B 69). From the draws come the variance of each cell's mean
and how two cells go together. The interval of a cell is Wilson's (1927, JASA 22) with that variance in the place of
p (1 - p) / n and the number of clusters in the place of n, as survey statistics do for proportions of clusters
(Kott 2017, Survey Methodology 43):

    (m + z^2 / 2n  +-  z sqrt(variance + z^2 / 4n^2)) / (1 + z^2 / n)

Of independent right and wrong answers it is Wilson's own. It has a width where all answers agree, stays inside the
scale, and covers small samples, where resampling and the central limit theorem do not (Bowyer, Aitchison and Ivanova
2025, arXiv 2503.01747). Of a difference it is Bonett and Price's for paired proportions (2012, J. Educ. Behav. Stat.
37): that of the differences and two more, one of +1 and one of -1. ``tests/evaluate/test_coverage.py`` counts how often
both hold the truth. The interval of the mean over cells is recovered from those of the cells and their correlations
(MOVER: Zou and Donner 2008, Statistics in Medicine 27).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from curr_reft.curriculum.wilson import Z
from curr_reft.evaluate.intervals import Interval

Scores = Sequence[tuple[str, float]]
"""(cluster, score) of every item of a cell; not empty."""

_AT_ONCE = 1 << 18  # clusters drawn in one go
_ROUNDING = 1e-9  # what a mean of equal scores may seem to vary


def score_intervals(
    cells: Mapping[str, Scores], resamples: int, *, differences: bool = False, seed: int = 0
) -> tuple[dict[str, Interval], Interval]:
    """(the interval of each cell, that of the mean over cells, each cell counting alike).

    Scores are from 0 to 1, ``differences`` of two scores from -1 to 1. ``seed`` is that of the draws. Raises ValueError
    for a score outside of that, or none (NaN).
    """
    lowest, highest, ends = (-1.0, 1.0, _bonett_price) if differences else (0.0, 1.0, _wilson)
    sums_NK, counts_NK = _by_cluster(cells, lowest, highest)
    means_K = sums_NK.sum(axis=0) / counts_NK.sum(axis=0)
    covariance_KK = _covariance(sums_NK, counts_NK, resamples, seed)
    clusters_K = (counts_NK > 0).sum(axis=0)
    low_K, high_K = ends(means_K, covariance_KK.diagonal(), clusters_K)
    low_K = np.clip(np.minimum(low_K, means_K), lowest, highest)  # rounding must not put an end beside the mean
    high_K = np.clip(np.maximum(high_K, means_K), lowest, highest)
    intervals = {
        name: Interval(mean=float(mean), low=float(low), high=float(high), clusters=int(count))
        for name, mean, low, high, count in zip(cells, means_K, low_K, high_K, clusters_K, strict=True)
    }
    together_KK = _correlation(covariance_KK, counts_NK > 0)
    mean = float(means_K.mean())
    whole = Interval(
        mean=mean,
        low=max(lowest, mean - _recovered(means_K - low_K, together_KK)),
        high=min(highest, mean + _recovered(high_K - means_K, together_KK)),
        clusters=len(counts_NK),
    )
    return intervals, whole


def _by_cluster(cells: Mapping[str, Scores], lowest: float, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums of scores and counts of items, (clusters, cells) each."""
    places: dict[str, int] = {}
    for scores in cells.values():
        for cluster, _ in scores:
            places.setdefault(cluster, len(places))
    sums_NK, counts_NK = np.zeros((len(places), len(cells))), np.zeros((len(places), len(cells)))
    for column, (name, scores) in enumerate(cells.items()):
        for cluster, score in scores:
            if not lowest <= score <= highest:
                raise ValueError(f"{name}: {score} is no score from {lowest:g} to {highest:g}")
            sums_NK[places[cluster], column] += score
            counts_NK[places[cluster], column] += 1
    return sums_NK, counts_NK


def _covariance(sums_NK: np.ndarray, counts_NK: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Of the cells' means over draws of clusters, (cells, cells).

    Clusters are drawn among those that are asked about in the same cells: no draw leaves a cell empty.
    """
    rng = np.random.default_rng(seed)
    drawn_sums_RK, drawn_counts_RK = np.zeros((2, resamples, sums_NK.shape[1]))
    kinds, kind_of_N = np.unique(counts_NK > 0, axis=0, return_inverse=True)
    for kind, asked_K in enumerate(kinds):
        (members,), (cells,) = np.nonzero(kind_of_N.reshape(-1) == kind), np.nonzero(asked_K)
        step = max(1, _AT_ONCE // len(members))
        for start in range(0, resamples, step):
            part = slice(start, min(start + step, resamples))
            picked = members[rng.integers(0, len(members), (part.stop - start, len(members)))]
            for cell in cells:
                drawn_sums_RK[part, cell] += sums_NK[picked, cell].sum(axis=1)
                drawn_counts_RK[part, cell] += counts_NK[picked, cell].sum(axis=1)
    means_RK = drawn_sums_RK / drawn_counts_RK
    apart_RK = means_RK - means_RK.mean(axis=0)
    return np.asarray(apart_RK.T @ apart_RK / resamples)


def _wilson(means_K: np.ndarray, variances_K: np.ndarray, clusters_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of scores."""
    extra_K = Z * Z / clusters_K
    centre_K = (means_K + extra_K / 2) / (1 + extra_K)
    half_K = Z * np.sqrt(variances_K + extra_K / (4 * clusters_K)) / (1 + extra_K)
    return centre_K - half_K, centre_K + half_K


def _bonett_price(
    means_K: np.ndarray, variances_K: np.ndarray, clusters_K: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of differences, whose two more have the mean 0 and the squares 2."""
    extra_K = 2 / clusters_K
    centre_K = means_K / (1 + extra_K)
    spread_K = variances_K + extra_K / clusters_K * (1 + means_K**2 / (1 + extra_K))
    half_K = Z * np.sqrt(spread_K) / (1 + extra_K)
    return centre_K - half_K, centre_K + half_K


def _correlation(covariance_KK: np.ndarray, asked_NK: np.ndarray) -> np.ndarray:
    """Of cells: 0 where they share no cluster; 1, which makes the interval widest, where they do and one of them does
    not vary, so that nothing is seen of how they go together."""
    deviations_K = np.sqrt(covariance_KK.diagonal())
    scale_KK = np.outer(deviations_K, deviations_K)
    varies_K = deviations_K > _ROUNDING
    seen_KK = np.divide(covariance_KK, scale_KK, out=np.ones_like(scale_KK), where=np.outer(varies_K, varies_K))
    share_KK = asked_NK.T.astype(np.int64) @ asked_NK.astype(np.int64) > 0
    return np.where(share_KK, np.clip(seen_KK, -1, 1), 0.0)


def _recovered(distances_K: np.ndarray, together_KK: np.ndarray) -> float:
    """How far an end lies from the mean over cells, from how far theirs lie from their means."""
    return float(np.sqrt(max(0.0, distances_K @ together_KK @ distances_K)) / len(distances_K))
