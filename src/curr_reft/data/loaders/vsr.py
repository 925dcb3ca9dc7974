"""VSR, visual spatial reasoning (Liu et al. 2023, arXiv 2205.00363): is what the caption says true?

A line of ``splits/random/train.jsonl`` holds ``image`` (a file name of COCO 2017), ``caption``, ``label`` (1 for true)
and ``relation``.
"""

from collections.abc import Iterator

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_rows import converted_rows
from curr_reft.data.loaders.published import get, refuse_options, task_of, text
from curr_reft.data.rows import Row, RowOrBad


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a line. Raises DataError."""
    task_of(entry, "math", default="math")
    refuse_options(entry, "this format has none")
    return converted_rows(entry, _line)


def _line(row: Row, entry: LoaderEntry) -> Row:
    label = get(row.fields, "label", int)
    if label not in {0, 1}:
        raise ValueError(f"label must be 0 or 1, not {label}")
    problem = f'Is this statement true of the image, yes or no: "{text(row.fields, "caption")}"'
    fields = {"problem": problem, "solution": "yes" if label else "no", "task": "math"}
    return Row(row.source, row.line, {**fields, "image": text(row.fields, "image")})
