"""The format of an entry that names none: told by folder, suffix and the keys of each row. Between two, it asks."""

from collections.abc import Iterator

from curr_reft.data.loaders import LoaderEntry, reference, trl
from curr_reft.data.loaders.json_rows import Convert, converted_rows
from curr_reft.data.rows import Row, RowOrBad
from curr_reft.errors import DataError

STYLES = {"reference": reference, "trl": trl}
"""Formats whose rows are JSON objects told apart by their keys."""


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a layout that is not known, and for one that could be several."""
    return converted_rows(entry, convert)


def convert(row: Row, entry: LoaderEntry) -> Row:
    """Raises ValueError for keys of no format, DataError for those of several."""
    names = [name for name, style in STYLES.items() if style.claims(row.fields)]
    if not names:
        raise ValueError(
            f"has none of the keys problem, prompt, messages, conversations, instruction, query that tell a format; "
            f"keys found: {', '.join(sorted(row.fields)) or 'none'}"
        )
    if len(names) > 1:
        raise DataError(row.source, f"may be in the format {' or '.join(names)}; set format on the entry of the recipe")
    read: Convert | None = getattr(STYLES[names[0]], "convert", None)
    return read(row, entry) if read else row
