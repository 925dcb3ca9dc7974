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
    sums_CE, counts_CE = _by_cluster(cells, lowest, highest)
    means_E = sums_CE.sum(axis=0) / counts_CE.sum(axis=0)
    covariance_EE = _covariance(sums_CE, counts_CE, resamples, seed)
    clusters_E = (counts_CE > 0).sum(axis=0)
    low_E, high_E = ends(means_E, covariance_EE.diagonal(), clusters_E)
    low_E = np.clip(np.minimum(low_E, means_E), lowest, highest)  # rounding must not put an end beside the mean
    high_E = np.clip(np.maximum(high_E, means_E), lowest, highest)
    intervals = {
        name: Interval(mean=float(mean), low=float(low), high=float(high), clusters=int(count))
        for name, mean, low, high, count in zip(cells, means_E, low_E, high_E, clusters_E, strict=True)
    }
    together_EE = _correlation(covariance_EE, counts_CE > 0)
    mean = float(means_E.mean())
    whole = Interval(
        mean=mean,
        low=max(lowest, mean - _recovered(means_E - low_E, together_EE)),
        high=min(highest, mean + _recovered(high_E - means_E, together_EE)),
        clusters=len(counts_CE),
    )
    return intervals, whole


def _by_cluster(cells: Mapping[str, Scores], lowest: float, highest: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums of scores and counts of items, (clusters, cells) each."""
    places: dict[str, int] = {}
    for scores in cells.values():
        for cluster, _ in scores:
            places.setdefault(cluster, len(places))
    sums_CE, counts_CE = np.zeros((len(places), len(cells))), np.zeros((len(places), len(cells)))
    for column, (name, scores) in enumerate(cells.items()):
        for cluster, score in scores:
            if not lowest <= score <= highest:
                raise ValueError(f"{name}: {score} is no score from {lowest:g} to {highest:g}")
            sums_CE[places[cluster], column] += score
            counts_CE[places[cluster], column] += 1
    return sums_CE, counts_CE


def _covariance(sums_CE: np.ndarray, counts_CE: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Of the cells' means over draws of clusters, (cells, cells).

    Clusters are drawn among those that are asked about in the same cells: no draw leaves a cell empty.
    """
    rng = np.random.default_rng(seed)
    drawn_sums_RE, drawn_counts_RE = np.zeros((2, resamples, sums_CE.shape[1]))
    kinds, kind_of_C = np.unique(counts_CE > 0, axis=0, return_inverse=True)
    for kind, asked_E in enumerate(kinds):
        (members,), (cells,) = np.nonzero(kind_of_C.reshape(-1) == kind), np.nonzero(asked_E)
        step = max(1, _AT_ONCE // len(members))
        for start in range(0, resamples, step):
            part = slice(start, min(start + step, resamples))
            picked = members[rng.integers(0, len(members), (part.stop - start, len(members)))]
            for cell in cells:
                drawn_sums_RE[part, cell] += sums_CE[picked, cell].sum(axis=1)
                drawn_counts_RE[part, cell] += counts_CE[picked, cell].sum(axis=1)
    means_RE = drawn_sums_RE / drawn_counts_RE
    apart_RE = means_RE - means_RE.mean(axis=0)
    return np.asarray(apart_RE.T @ apart_RE / resamples)


def _wilson(means_E: np.ndarray, variances_E: np.ndarray, clusters_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of scores."""
    extra_E = Z * Z / clusters_E
    centre_E = (means_E + extra_E / 2) / (1 + extra_E)
    half_E = Z * np.sqrt(variances_E + extra_E / (4 * clusters_E)) / (1 + extra_E)
    return centre_E - half_E, centre_E + half_E


def _bonett_price(
    means_E: np.ndarray, variances_E: np.ndarray, clusters_E: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of differences, whose two more have the mean 0 and the squares 2."""
    extra_E = 2 / clusters_E
    centre_E = means_E / (1 + extra_E)
    spread_E = variances_E + extra_E / clusters_E * (1 + means_E**2 / (1 + extra_E))
    half_E = Z * np.sqrt(spread_E) / (1 + extra_E)
    return centre_E - half_E, centre_E + half_E


def _correlation(covariance_EE: np.ndarray, asked_CE: np.ndarray) -> np.ndarray:
    """Of cells: 0 where they share no cluster; 1, which makes the interval widest, where they do and one of them does
    not vary, so that nothing is seen of how they go together.

    Below 0 it narrows the interval, to nothing at -1, which few clusters come to by luck. There it is taken with Z^2
    clusters more in which the cells go together: of two cells that only ever differ the mean has Wilson's interval of
    the clusters' means.
    """
    deviations_E = np.sqrt(covariance_EE.diagonal())
    scale_EE = np.outer(deviations_E, deviations_E)
    varies_E = deviations_E > _ROUNDING
    seen_EE = np.divide(covariance_EE, scale_EE, out=np.ones_like(scale_EE), where=np.outer(varies_E, varies_E))
    seen_EE = np.clip(seen_EE, -1, 1)
    shared_EE = asked_CE.T.astype(np.int64) @ asked_CE.astype(np.int64)
    cautious_EE = np.minimum(0.0, (shared_EE * seen_EE + Z * Z) / (shared_EE + Z * Z))
    return np.where(shared_EE > 0, np.where(seen_EE < 0, cautious_EE, seen_EE), 0.0)


def _recovered(distances_E: np.ndarray, together_EE: np.ndarray) -> float:
    """How far an end lies from the mean over cells, from how far theirs lie from their means."""
    return float(np.sqrt(max(0.0, distances_E @ together_EE @ distances_E)) / len(distances_E))
