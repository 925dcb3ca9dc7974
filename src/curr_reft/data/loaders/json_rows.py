"""What the formats of JSON rows share: one row at a time becomes a row in the reference style, or a bad one."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.rows import BadRow, Row, RowOrBad, rows_of

Convert: TypeAlias = Callable[[Row, LoaderEntry], Row]
"""A row in the style of a format to one in the reference style. Raises ValueError with the reason."""

KEPT = ("task", "domain", "distractors")
"""Keys of our own that a row of any format may have."""


def converted_rows(entry: LoaderEntry, convert: Convert) -> Iterator[RowOrBad]:
    """The rows of a JSONL file or a JSON list. Raises DataError for a file that cannot be read."""
    for row in rows_of(entry.path, entry.name):
        yield converted(row, entry, convert)


def converted(row: RowOrBad, entry: LoaderEntry, convert: Convert) -> RowOrBad:
    if isinstance(row, BadRow):
        return row
    try:
        return convert(row, entry)
    except ValueError as error:
        return BadRow(row.source, str(error))


def reference_fields(row: Row, question: Any, truth: Any, images: Any) -> dict[str, Any]:
    """The fields of a row in the reference style, with the keys of our own that it has."""
    kept = {key: row.fields[key] for key in KEPT if row.fields.get(key) is not None}
    return {"problem": question, "solution": truth, "images": images, **kept}


def images_of(fields: Mapping[str, Any]) -> Any:
    """The images of a row under the names that all these formats know."""
    return fields["images"] if fields.get("images") is not None else fields.get("image")


def refuse_other_media(fields: Mapping[str, Any]) -> None:
    """Raises ValueError for a row with videos or audio: a question without them would be another question."""
    for key in ("videos", "video", "audios", "audio"):
        if fields.get(key):
            raise ValueError(f"has {key}, and only images are read; leave the row out with data.bad_rows: skip")
