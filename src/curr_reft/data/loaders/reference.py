"""Rows of the reference data set (Curr-ReFT, arXiv 2503.07065): JSON lines or a JSON list with ``problem``,
``solution`` (the truth inside ``<answer>`` tags), ``task`` and ``image``. Its typos are repaired in ``styles.py``."""

from collections.abc import Iterator
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.rows import RowOrBad, raw_rows


def claims(fields: dict[str, Any]) -> bool:
    """Whether a row may be in this style."""
    return "problem" in fields


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that cannot be read."""
    for raw in raw_rows(entry.path, entry.name):
        yield raw.parse(entry.name)
