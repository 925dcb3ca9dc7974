"""Rows of the reference data set (Curr-ReFT, arXiv 2503.07065): JSON lines or a JSON list with ``problem``,
``solution`` (the truth inside ``<answer>`` tags), ``task`` and ``image``. Its typos are repaired in ``styles.py``."""

from collections.abc import Iterator
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_rows import converted_rows
from curr_reft.data.rows import Row, RowOrBad


def claims(fields: dict[str, Any]) -> bool:
    """Whether a row may be in this style."""
    return "problem" in fields and (fields.get("answer") is None or fields.get("solution") is not None)


def convert(row: Row, entry: LoaderEntry) -> Row:
    """Rows in this style are left as they are."""
    return row


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that cannot be read."""
    return converted_rows(entry, convert)
