"""All items of a recipe at once, for a run. ``stream.py`` reads them; nothing here looks at a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curr_reft.data.config import DataConfig
from curr_reft.data.item import Item
from curr_reft.data.stream import SHOWN_PROBLEMS, ItemStream, ReadTruth

__all__ = ["LoadedData", "ReadTruth", "load_data", "rows_account"]


@dataclass(frozen=True, kw_only=True)
class LoadedData:
    """The items of every split and what was met on the way."""

    items: tuple[Item, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # (file:line, reason) of bad rows left out
    unverified: int = 0  # of them, those whose truth could not be verified in time
    repaired: int = 0  # rows with typos of the reference data, which were repaired
    repairs: Mapping[str, int] = field(default_factory=dict)  # what was repaired -> rows
    repeated: int = 0  # rows listed twice in one split, kept once
    mostly_bad: tuple[tuple[str, int, int], ...] = ()  # (file, bad rows, rows) where more than half are bad

    def split(self, name: str) -> list[Item]:
        return [item for item in self.items if item.split == name]

    def account(self) -> dict[str, Any]:
        """Counts for the data card of the run."""
        counts: dict[str, dict[str, int]] = {}
        for item in self.items:
            tasks = counts.setdefault(item.split, {})
            tasks[item.task] = tasks.get(item.task, 0) + 1
        return {
            "items": counts,
            **rows_account(self.skipped, self.unverified, self.repaired, self.repeated, self.repairs),
        }


def rows_account(
    skipped: Sequence[tuple[str, str]], unverified: int, repaired: int, repeated: int, repairs: Mapping[str, int]
) -> dict[str, Any]:
    """What became of rows that were not as they should be, for a card."""
    return {
        "skipped_rows": len(skipped),
        "unverified_rows": unverified,
        "skipped_first": [f"{source}: {reason}" for source, reason in skipped[:SHOWN_PROBLEMS]],
        "repaired_rows": repaired,
        "repairs": dict(sorted(repairs.items())),
        "repeated_rows": repeated,
    }


def load_data(config: DataConfig, read_truth: ReadTruth, base: Path = Path(), *, quiet: bool = False) -> LoadedData:
    """All items of the recipe's data section. ``base`` is the folder relative paths start from (the recipe's).

    ``quiet``: what was repaired and left out is logged by nobody. Raises DataError with every bad row in ``problems``,
    unless ``bad_rows`` is skip.
    """
    stream = ItemStream(config, read_truth, base, quiet=quiet)
    items = tuple(stream)
    return LoadedData(
        items=items,
        skipped=tuple((bad.source, bad.reason) for bad in stream.account.bad),
        unverified=stream.account.unverified,
        repaired=stream.account.repaired,
        repairs=dict(stream.account.repairs),
        repeated=stream.account.repeated,
        mostly_bad=stream.account.mostly_bad,
    )
