"""GeomVerse (Kazemi et al. 2023, arXiv 2312.12241): generated geometry, ``TRAIN/TRAIN_MIX/data.jsonl`` and the like.

A line holds ``question``, ``label`` (the answer as a number), ``cot`` and ``image_path``, which starts from the folder
that the archive was unpacked in: give that folder as ``image_root``.
"""

from collections.abc import Iterator

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_rows import converted_rows
from curr_reft.data.loaders.published import refuse_options, task_of, text
from curr_reft.data.rows import Row, RowOrBad


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a line. Raises DataError."""
    task_of(entry, "math", default="math")
    refuse_options(entry, "this format has none")
    return converted_rows(entry, _line)


def _line(row: Row, entry: LoaderEntry) -> Row:
    label = row.fields.get("label")
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        raise ValueError(f"label must be a number, not {label!r}")
    fields = {"problem": text(row.fields, "question"), "solution": str(label), "task": "math"}
    return Row(row.source, row.line, {**fields, "image": text(row.fields, "image_path")})
