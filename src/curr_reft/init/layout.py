"""Which format a file or folder of rows is in, and what its columns mean. Nothing is decoded."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

from curr_reft.data.loaders import COLUMNS, LOADERS, LoaderEntry, arrow, auto, imagefolder, nearest, parquet, table
from curr_reft.data.loaders.by_keys import STYLES
from curr_reft.data.opening import data_suffix, excel_delimiter, open_data
from curr_reft.data.rows import Row, rows_of
from curr_reft.data.styles import read_fields
from curr_reft.errors import UsageError
from curr_reft.init.choices import Choices

LOOKED_AT = 50  # rows whose keys and cells are looked at

NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "problem", "prompt", "query", "instruction", "text", "ask", "expression"),
    "answer": (
        *("answer", "label", "solution", "target", "class", "category", "ground_truth", "truth", "bbox", "box"),
        *("labels", "classes", "response", "output", "say"),
    ),
    "image": ("image", "file_name", "filename", "file", "photo", "picture", "img", "image_path", "path", "images"),
    "task": ("task",),
    "domain": ("domain",),
    "distractors": ("distractors",),
}
"""Names under which columns are found, the likeliest first. Cases do not matter."""


def find_format(path: Path, given: str | None, choices: Choices) -> str:
    """A name of ``LOADERS``. Raises UsageError where it cannot be told."""
    if given:
        if given not in LOADERS:
            raise UsageError(f"--format {given!r} is no format; {nearest(given, LOADERS)}")
        return choices.note("format", given, "--format says so")
    try:
        name = auto.layout(LoaderEntry(path=path, name=path.name))
    except auto.UnclearFormatError as error:
        return _asked(choices, error.reason)
    if name is not None:
        why = {"table": "the suffix", "imagefolder": "the folder holds pictures"}
        instead = "refcoco, for expressions" if name == "coco" else ""
        return choices.note("format", name, why.get(name, f"what is there is {LOADERS[name].about}"), instead)
    return _by_keys(path, choices)


def _by_keys(path: Path, choices: Choices) -> str:
    rows = [row for row in islice(rows_of(path, path.name), LOOKED_AT) if isinstance(row, Row)]
    if not rows:
        raise UsageError(f"--data {path}: none of its first {LOOKED_AT} lines is a JSON object; is it another format?")
    claims = [name for name, style in STYLES.items() if all(style.claims(row.fields) for row in rows)]
    keys = ", ".join(sorted(rows[0].fields))
    if len(claims) == 1:
        return choices.note("format", claims[0], f"the keys of its rows: {keys}")
    if len(claims) > 1:
        return _asked(choices, f"its rows ({keys}) may be in the format {' or '.join(claims)}")
    return choices.note("format", "table", f"its keys are those of no known format: {keys}", "another, by --format")


def _asked(choices: Choices, unclear: str) -> str:
    name = choices.pick("--format", list(LOADERS), "format", unclear=unclear)
    return choices.note("format", name, "asked")


def find_columns(
    path: Path, name: str, given: Mapping[str, str], options: Mapping[str, str], choices: Choices
) -> dict[str, str]:
    """Our name -> the column, for what is not called so already. Raises UsageError where answers or questions are not
    found."""
    stored = _stored(path, name, options)
    if stored is None:
        return dict(given)
    cells = [row.fields for row in stored]
    header = list(dict.fromkeys(key for row in cells for key in row))
    if name in ("parquet", "arrow") and not given and any(_read_by_its_keys(row, path) for row in stored):
        return {}
    found = dict(given)
    why = dict.fromkeys(given, "--column says so")
    free = [column for column in header if column not in given.values()]
    for ours in COLUMNS:
        if ours in found:
            continue
        column = _named(ours, free)
        if column is None and ours == "image":
            column = _pictures(path, free, cells)
        if column is not None:
            free.remove(column)
            found[ours] = column
    if "answer" not in found:
        column = choices.pick("--column answer=NAME", free, "column with the answers", unclear=_no("answers", header))
        found["answer"], why["answer"] = column, "asked"
        free.remove(column)
    if "question" not in found and "question" not in options and name in ("table", "parquet", "arrow"):
        flags = '--column question=NAME, or --option "question=..." for one question of all rows'
        column = choices.pick(flags, free, "column with the questions", unclear=_no("questions", header))
        found["question"], why["question"] = column, "asked"
        free.remove(column)
    for ours, column in found.items():
        others = " or ".join(each for each in free if each)
        chosen_by = why.get(ours, "its name, or what it holds")
        choices.note(f"column {ours}", column, chosen_by, f"{others} (--column {ours}=NAME)" if others else "")
    kept = {ours: column for ours, column in found.items() if ours != column}
    if name == "imagefolder":
        kept.pop("image", None)  # the format knows it
    return kept


def _read_by_its_keys(row: Row, path: Path) -> bool:
    """Whether the names of the columns are those of a known style of rows, and all that it needs is there."""
    entry = LoaderEntry(path=path, name=path.name)
    for style in STYLES.values():
        if style.claims(row.fields):
            try:
                read_fields(style.convert(row, entry).fields)
            except ValueError:  # what it lacks may stand in other columns
                continue
            return True
    return False


def _no(what: str, header: Sequence[str]) -> str:
    return f"no column is known to hold the {what}; columns are {', '.join(header) or 'none'}"


def _named(ours: str, columns: Sequence[str]) -> str | None:
    lower = {column.casefold(): column for column in reversed(columns)}
    return next((lower[name] for name in NAMES[ours] if name in lower), None)


def _pictures(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """A column whose cells end as the names of pictures do."""
    for column in columns:
        cells = [str(row.get(column, "")) for row in rows]
        if cells and all(Path(cell).suffix.lower() in imagefolder.SUFFIXES for cell in cells):
            return column
    return None


def _stored(path: Path, name: str, options: Mapping[str, str]) -> list[Row] | None:
    """The first rows as the file holds them; None for a format whose columns have fixed names."""
    entry = LoaderEntry(path=path, name=path.name)
    if name == "imagefolder":
        metadata = [path / each for each in imagefolder.METADATA if (path / each).is_file()]
        if len(metadata) != 1:
            return None
        path = metadata[0]
        entry = LoaderEntry(path=path, name=path.name)
        name = "parquet" if path.suffix == ".parquet" else "table"
    if name in ("parquet", "arrow"):
        reader = arrow if name == "arrow" else parquet
        return list(islice(reader.stored_rows(replace(entry, options=options)), LOOKED_AT))
    if name != "table":
        return None
    if data_suffix(path) in table.SUFFIXES:
        with open_data(path, path.name) as stored, TextIOWrapper(stored, "utf-8", errors="replace", newline="") as file:
            first = file.readline()
            if excel_delimiter(first):
                first = file.readline()
            delimiter = max(table.DELIMITERS.values(), key=first.count)
            header = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter))]
            body = islice(csv.reader(file, delimiter=delimiter), LOOKED_AT)
            return [
                Row(f"{path.name}:{line}", line, dict(zip(header, cells, strict=False)))
                for line, cells in enumerate(body, start=2)
            ]
    return [row for row in islice(rows_of(path, path.name), LOOKED_AT) if isinstance(row, Row)]
