"""Formats whose rows are objects told apart by their keys. A row that may be in two is a question for the user."""

from curr_reft.data.loaders import LoaderEntry, easyr1, llamafactory, reference, swift, trl
from curr_reft.data.loaders.json_rows import Convert
from curr_reft.data.rows import Row
from curr_reft.errors import DataError

STYLES = {"reference": reference, "trl": trl, "easyr1": easyr1, "swift": swift, "llamafactory": llamafactory}


def convert(row: Row, entry: LoaderEntry) -> Row:
    """Raises ValueError for keys of no format, DataError for those of several."""
    names = [name for name, style in STYLES.items() if style.claims(row.fields)]
    if not names:
        raise ValueError(
            "has none of the keys problem, prompt, messages, conversations, instruction, query that tell a format; "
            f"keys found: {', '.join(sorted(row.fields)) or 'none'}; "
            "name the format or the columns on the entry of the recipe"
        )
    if len(names) > 1:
        raise DataError(row.source, f"may be in the format {' or '.join(names)}; set format on the entry of the recipe")
    return convert_as(names[0])(row, entry)


def convert_as(style: str) -> Convert:
    """How rows of one of ``STYLES`` become rows in the reference style."""
    convert_row: Convert = STYLES[style].convert
    return convert_row
