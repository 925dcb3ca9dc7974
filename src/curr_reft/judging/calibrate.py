"""How far a judge can be trusted: agreement with labels, what sways it, and the threshold that follows.

- *Agreement*: the share of rows on the right side of the threshold, Cohen's kappa, Spearman's rank correlation, AUC.
- *Length*: the rank correlation of total and length with the truth taken out, and what sentences that say nothing add
  to the total of the very same answer. A fair judge gives 0 for both.
- *Position*: judges here see one answer at a time, so there is no first and second answer to prefer. What has a place
  is a criterion: the rubric is asked once more with the criteria in reverse order, and the totals compared. A fair
  judge gives 0, and about as much difference by row as between two repeats.
- *Consistency*: the same question again: how far the totals of a row spread, how often all are on one side.
- *Curve*: at every threshold, how much is kept and how much of that is right.

The recommended threshold is the lowest at which the Wilson lower bound of the precision reaches the target, with
``LEAST_KEPT`` rows kept: where the few that are kept are all right, the bootstrap knows no doubt, and Wilson does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curr_reft.curriculum.wilson import wilson
from curr_reft.errors import UsageError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges import Judged, Workplace, judge_all
from curr_reft.improve.records import CRITERIA, Candidate
from curr_reft.judging.rows import Labelled
from curr_reft.judging.statistics import (
    auc,
    interval_of,
    kappa,
    mean,
    partial_spearman,
    spearman,
    with_interval,
)
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.policy import Policy

LEAST_KEPT = 20
FEWEST = 10  # rows with a verdict below which nothing is said
PADDING = (
    " Let me go over this once more, slowly and with care. Every part of the question has been considered, one after "
    "the other, and nothing has been left out. All of this fits together, as one would expect, and so the result "
    "stands as it was found above."
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured."""

    threshold: float  # of the recipe: strictly above is kept
    precision: float = 0.95  # that the recommended threshold must reach
    repeats: int = 3
    resamples: int = 1000
    seed: int = 0


def calibrate(config: JudgeConfig, rows: Sequence[Labelled], workplace: Workplace, plan: Plan) -> dict[str, Any]:
    """All measures as plain data. Judges every row ``plan.repeats + 2`` times, through the cache.

    Raises what ``judge_all`` raises, and UsageError when too few rows got a verdict.
    """
    candidates = [row.candidate for row in rows]
    workplace = replace(workplace, load=_once(workplace.load))
    costs = [0.0]  # of the passes so far: a budget is for all of them
    workplace.say(f"{plan.repeats + 2} passes over {len(rows)} answers")

    def judge(asked: Sequence[Candidate], **changed: Any) -> Judged:
        judged = judge_all(config, asked, replace(workplace, spent=sum(costs), **changed))
        costs.append(judged.account.get("cost") or 0.0)
        return judged

    first = judge(candidates)
    totals = _totals(first)
    judged = ~np.isnan(totals)
    if judged.sum() < FEWEST:
        raise UsageError(
            f"{int(judged.sum())} of {len(rows)} rows got a verdict ({first.account['failures']}), and {FEWEST} are "
            "the fewest that say something; give more rows, or another judge"
        )
    repeats = [totals, *(_totals(judge(candidates, repeat=number)) for number in range(1, plan.repeats))]
    padded = _totals(judge([replace(each, completion=pad(each.completion)) for each in candidates]))
    turned = judge(candidates, order=CRITERIA[::-1])
    truth = np.array([_right(row, plan.threshold) for row in rows])
    measured = _Measured(rows=rows, totals=totals, truth=truth, judged=judged, plan=plan)
    curve = measured.curve()
    return {
        "judge": first.account,
        "rows": len(rows),
        "verdicts": int(judged.sum()),
        "right": float(truth[judged].mean()),
        "threshold": plan.threshold,
        "agreement": measured.agreement(),
        "length": measured.length(padded),
        "position": measured.position(_totals(turned), first, turned),
        "consistency": measured.consistency(repeats),
        "curve": curve,
        "recommended": recommend(curve, plan.precision),
    }


def _once(load: Callable[[ModelConfig], Policy]) -> Callable[[ModelConfig], Policy]:
    """``load``, for one model: a judge in this process is loaded for the first pass and serves all of them."""
    held: list[Policy] = []

    def loaded(config: ModelConfig) -> Policy:
        if not held:
            held.append(load(config))
        return held[0]

    return loaded


def pad(completion: str) -> str:
    """The same answer with sentences that say nothing at the end of its reasoning."""
    head, close, tail = completion.partition("</think>")
    return f"{head.rstrip()}{PADDING} {close}{tail}" if close else f"{PADDING.strip()} {completion}"


def recommend(curve: Sequence[dict[str, Any]], precision: float) -> dict[str, Any]:
    """The lowest threshold whose precision is at least ``precision`` for sure; without one, the surest there is."""
    enough = [each for each in curve if each["kept"] >= LEAST_KEPT]
    reached = [each for each in enough if each["precision_at_least"] >= precision]
    if reached:
        return {"threshold": reached[0]["threshold"], "reached": True, "target": precision}
    if not enough:
        return {"threshold": None, "reached": False, "target": precision}
    best = max(enough, key=lambda each: each["precision_at_least"])
    return {"threshold": best["threshold"], "reached": False, "target": precision}


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Totals of the rows (nan: no verdict) beside the truth."""

    rows: Sequence[Labelled]
    totals: np.ndarray
    truth: np.ndarray
    judged: np.ndarray
    plan: Plan

    def _interval(self, measure: Callable[..., float | None], *lists: np.ndarray) -> dict[str, float | None]:
        return with_interval(measure, *lists, resamples=self.plan.resamples, seed=self.plan.seed)

    def agreement(self) -> dict[str, Any]:
        totals, truth = self.totals[self.judged], self.truth[self.judged]
        above = totals > self.plan.threshold
        labels = [row.score if row.score is not None else 100.0 * bool(row.correct) for row in self.rows]
        return {
            "accuracy": self._interval(mean, (above == truth).astype(float)),
            "kappa": self._interval(kappa, above, truth),
            "spearman": self._interval(spearman, totals, np.array(labels)[self.judged]),
            "auc": self._interval(auc, totals, truth),
            "right_kept": _share(above, truth),
            "wrong_kept": _share(above, ~truth),
        }

    def length(self, padded: np.ndarray) -> dict[str, Any]:
        lengths = np.array([float(len(row.candidate.completion)) for row in self.rows])
        difference = self._difference(padded)
        return {
            "partial_spearman": self._interval(
                partial_spearman, self.totals[self.judged], lengths[self.judged], self.truth[self.judged].astype(float)
            ),
            "padding": difference,
            "padding_characters": len(PADDING),
        }

    def position(self, turned: np.ndarray, first: Judged, second: Judged) -> dict[str, Any]:
        by_criterion = {}
        for name in CRITERIA:
            pairs = [
                (b.scores[name] - a.scores[name])
                for a, b in zip(first.verdicts, second.verdicts, strict=True)
                if a.failure is None and b.failure is None
            ]
            by_criterion[name] = float(np.mean(pairs)) if pairs else None
        return {"reversed": self._difference(turned), "by_criterion": by_criterion}

    def consistency(self, repeats: Sequence[np.ndarray]) -> dict[str, Any]:
        together = np.stack(repeats)  # (repeats, rows)
        whole = ~np.isnan(together).any(axis=0)
        if len(repeats) < 2 or not whole.any():
            return {"repeats": len(repeats), "rows": int(whole.sum()), "spread": None, "one_side": None}
        above = together[:, whole] > self.plan.threshold
        return {
            "repeats": len(repeats),
            "rows": int(whole.sum()),
            "spread": self._interval(mean, together[:, whole].std(axis=0, ddof=1)),
            "one_side": self._interval(mean, (above.all(axis=0) | ~above.any(axis=0)).astype(float)),
        }

    def curve(self) -> list[dict[str, Any]]:
        totals, truth = self.totals[self.judged], self.truth[self.judged]
        rng, n = np.random.default_rng(self.plan.seed), len(totals)
        drawn = rng.integers(0, n, (self.plan.resamples, n))
        lines = []
        for threshold in sorted({*range(0, 100, 5), float(self.plan.threshold)}):
            kept = totals > threshold
            counts = kept[drawn].sum(axis=1)
            right = (kept & truth)[drawn].sum(axis=1)
            keep_low, keep_high = interval_of(counts / n)
            low, high = interval_of(right[counts > 0] / counts[counts > 0])
            number, good = int(kept.sum()), int((kept & truth).sum())
            lines.append(
                {
                    "threshold": float(threshold),
                    "kept": number,
                    "keep_rate": number / n,
                    "keep_rate_low": keep_low,
                    "keep_rate_high": keep_high,
                    "precision": good / number if number else None,
                    "precision_low": low,
                    "precision_high": high,
                    "precision_at_least": wilson(good, number)[0] if number else 0.0,
                }
            )
        return lines

    def _difference(self, other: np.ndarray) -> dict[str, Any]:
        """Of the other totals less these, over the rows that have both; and how far a row moves either way."""
        both = ~np.isnan(other) & self.judged
        if not both.any():
            return {"rows": 0, "mean": None, "absolute": None}
        difference = other[both] - self.totals[both]
        return {
            "rows": int(both.sum()),
            "mean": self._interval(mean, difference),
            "absolute": float(np.abs(difference).mean()),
        }


def _totals(judged: Judged) -> np.ndarray:
    """float64 (rows); nan where there is no verdict."""
    return np.array([np.nan if verdict.total is None else verdict.total for verdict in judged.verdicts], dtype=float)


def _right(row: Labelled, threshold: float) -> bool:
    """A label that is a score is right above the threshold, as an answer is kept."""
    return row.correct if row.correct is not None else (row.score or 0.0) > threshold


def _share(above: np.ndarray, rows: np.ndarray) -> float | None:
    return float(above[rows].mean()) if rows.any() else None
