"""What one model answers better than another, with paired intervals: both answered the same items, so what makes an
item easy or hard for both cancels out, and the interval is that of the difference of the two on one item. Items that
share a picture, and an item that is asked in two cells, count together (``clusters.py``).

The intervals are about the choice of test items. What the seed of a training does is another matter, measured over
several runs (``curr-reft compare``).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curr_reft import rounds
from curr_reft.errors import DataError
from curr_reft.evaluate.clusters import cluster_of_row
from curr_reft.evaluate.general import SPLIT as GENERAL
from curr_reft.evaluate.score_intervals import score_intervals
from curr_reft.files import read_jsonl

PAIRS = (("curr_rl", "rl"), ("curr_rl", "sft"), ("rl", "sft"), ("curr_reft", "curr_rl"))
"""Models whose difference is told: what was added - what it was added to."""

Rows = Sequence[Mapping[str, Any]]  # of a file of predictions


def pairs_of(models: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs that are among ``models``; those of a further round against the curr_reft of the round before."""
    numbered = [rounds.parted(name) for name in models]
    further = [
        (rounds.named(name, number), rounds.named("curr_reft", number - 1))
        for name, number in numbered
        if number > rounds.FIRST
    ]
    return [(one, other) for one, other in (*PAIRS, *further) if one in models and other in models]


def name_of(one: str, other: str) -> str:
    """How a difference is called in files and tables."""
    return f"{one} - {other}"


def differences(folder: Path, models: Sequence[str], resamples: int) -> dict[str, Any]:
    """``{"A - B": {SUITE: {CELL: {"mean", "low", "high", "n"}, ..., "mean": {...}}}}`` of the predictions in
    ``folder``; a cell is a task, and under the suite ``general`` a cell of the general pool. Raises DataError."""
    found = {}
    for one, other in pairs_of(models):
        suites = _of_files(folder, one, other, "predictions", resamples)
        if (folder / f"{one}.general.jsonl").is_file():
            suites |= _of_files(folder, one, other, "general", resamples)
        found[name_of(one, other)] = suites
    return found


def _of_files(folder: Path, one: str, other: str, kind: str, resamples: int) -> dict[str, dict[str, Any]]:
    """Raises DataError where answers were lost or changed since the models gave them."""
    paths = [folder / f"{model}.{kind}.jsonl" for model in (one, other)]
    rows: list[Rows] = [read_jsonl(path) for path in paths]
    if kind == "general":
        rows = [_as_suite(own) for own in rows]
    try:
        return paired(*rows, resamples=resamples)
    except ValueError as error:
        raise DataError(
            " and ".join(map(str, paths)), f"{error}; remove both files and --resume, and the models are asked again"
        ) from error


def paired(one: Rows, other: Rows, *, resamples: int) -> dict[str, dict[str, Any]]:
    """Split -> task or ``mean`` -> the difference of the scores, item by item, with its 95 % interval.

    Raises ValueError when the two did not answer the same items.
    """
    before = {_item(row): row for row in other}
    if before.keys() != {_item(row) for row in one} or not len(before) == len(other) == len(one):
        raise ValueError("the two models did not answer the same items, so they cannot be paired")
    gains: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for row in one:
        cell = gains.setdefault(row["split"], {}).setdefault(row["task"], [])
        same = before[_item(row)]
        # An earlier version noted no cluster; of two models, one may have been evaluated by it.
        cell.append((cluster_of_row(row if "cluster" in row else same), row["score"] - same["score"]))
    found: dict[str, dict[str, Any]] = {}
    for split, cells in gains.items():
        intervals, mean = score_intervals(cells, resamples, differences=True)
        found[split] = {
            name: {"mean": each.mean, "low": each.low, "high": each.high, "n": len(cells[name]),
                   "clusters": each.clusters}
            for name, each in intervals.items()
        }  # fmt: skip
        found[split]["mean"] = {"mean": mean.mean, "low": mean.low, "high": mean.high, "clusters": mean.clusters}
    return found


def _item(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["split"], row["task"], row["id"]


def _as_suite(rows: Rows) -> list[dict[str, Any]]:
    """Answers to the general pool, whose cells stand where those of the test splits have their suite."""
    return [{**row, "split": GENERAL, "task": row["split"]} for row in rows]
