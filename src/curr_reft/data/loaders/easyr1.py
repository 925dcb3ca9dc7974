"""Rows as EasyR1 takes them: ``problem``, ``answer`` and, for pictures, ``images`` with an ``<image>`` in the problem
for each (its readme, "Custom Dataset", and ``verl/utils/dataset.py``). Its own data sets are parquet files with the
pictures inside, which ``parquet.py`` reads; here stand its keys.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_rows import converted_rows, images_of, reference_fields, refuse_other_media
from curr_reft.data.rows import Row, RowOrBad


def claims(fields: dict[str, Any]) -> bool:
    """Whether a row may be in this style. A solution inside answer tags is that of the reference data."""
    solution = fields.get("solution")
    tagged = isinstance(solution, str) and "answer>" in solution.lower()
    return "problem" in fields and fields.get("answer") is not None and not tagged


def convert(row: Row, entry: LoaderEntry) -> Row:
    """Raises ValueError for missing keys and for media that are no images."""
    fields = row.fields
    if missing := [key for key in ("problem", "answer") if fields.get(key) is None]:
        raise ValueError(f"has no {' and no '.join(missing)}; keys found: {', '.join(sorted(fields)) or 'none'}")
    refuse_other_media(fields)
    return replace(row, fields=reference_fields(row, fields["problem"], fields["answer"], images_of(fields)))


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that cannot be read."""
    return converted_rows(entry, convert)
