"""A plain table: CSV, TSV, or JSON rows whose columns the recipe names.

``columns: {question: Frage, answer: Antwort, image: Datei}`` says which of our names has which column; a name that is
not mentioned is looked for as it is. A question that is the same for every row stands in the option ``question``, which
wins over a column that happens to have that name.

CSV is read as RFC 4180 has it: quotes, doubled quotes inside them, line breaks inside quotes; a byte order mark is
dropped. The delimiter is the one of comma, semicolon, tab and bar that occurs most in the header, unless the option
``delimiter`` names it. An image or distractors that begin with ``[`` are a JSON list.
"""

import codecs
import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from curr_reft.data.loaders import COLUMNS, LoaderEntry, nearest
from curr_reft.data.loaders.json_rows import converted, converted_rows
from curr_reft.data.opening import data_suffix, excel_delimiter, open_data
from curr_reft.data.rows import BadRow, Row, RowOrBad
from curr_reft.errors import DataError

SUFFIXES = (".csv", ".tsv")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
_LISTS = ("image", "distractors")  # what a cell may hold a JSON list of; answers are read by their task
_QUOTED = re.compile(r'"[^"]*"?')


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that cannot be read, a column it does not have and broken quoting."""
    if data_suffix(entry.path) not in SUFFIXES:
        return converted_rows(entry, convert)
    return _csv_rows(entry)


def convert(row: Row, entry: LoaderEntry) -> Row:
    """A row by column names as one in the reference style. Raises ValueError for a column it lacks."""
    found: dict[str, Any] = {}
    for name in COLUMNS:
        column = entry.columns.get(name, name)
        if name in entry.columns and column not in row.fields:
            raise ValueError(f"has no column {column} ({name}); its columns are {', '.join(map(str, row.fields))}")
        if row.fields.get(column) not in (None, ""):
            found[name] = row.fields[column]
    if "question" in entry.options and "question" in entry.columns:
        raise ValueError("has two questions: one for all rows (options.question) and columns.question; keep one")
    question = entry.options.get("question", found.pop("question", None))
    if question is None:
        raise ValueError("has no question; name its column (columns.question), or one for all rows (options.question)")
    if "answer" not in found:
        raise ValueError(f"has no answer in the column {entry.columns.get('answer', 'answer')}")
    return Row(row.source, row.line, {"problem": question, "solution": found.pop("answer"), **found})


def _csv_rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    name, start = entry.name, 1
    try:
        with open_data(entry.path, name) as file:
            lines = _lines(file, entry)
            first = next(lines, "")
            named = excel_delimiter(first)  # Excel's sep=; before the header
            if named:
                first = next(lines, "")
            delimiter = named or _delimiter(first, entry)
            reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
            header = _header(reader, entry)
            start = reader.line_num + 1
            for cells in reader:
                if cells:  # an empty line is no row
                    yield _row(header, cells, start, entry)
                start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}:{start}", f"the row that begins here is broken: {error}; check its quotes") from error


def _lines(file: BinaryIO, entry: LoaderEntry) -> Iterator[str]:
    """The lines as text, one at a time, so that a wrong byte is found in its line."""
    encoding = entry.options.get("encoding", "utf-8")
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise DataError(entry.name, f"option encoding: {encoding!r} is not known; utf-8, cp1252, ...") from error
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{entry.name}:{number}",
                f"not {encoding}: {error.reason} at byte {error.start}; name the option encoding (cp1252, ...)",
            ) from error


def _delimiter(header: str, entry: LoaderEntry) -> str:
    name = entry.options.get("delimiter")
    if name is not None:
        if name not in DELIMITERS:
            raise DataError(entry.name, f"option delimiter: {name!r} is not known; {nearest(name, DELIMITERS)}")
        return DELIMITERS[name]
    if data_suffix(entry.path) == ".tsv":
        return DELIMITERS["tab"]
    bare = _QUOTED.sub("", header)
    return max(DELIMITERS.values(), key=bare.count)  # of equal ones the first: a table of one column needs none


def _header(reader: Iterator[list[str]], entry: LoaderEntry) -> list[str]:
    """The names of the columns. Raises DataError for one that the recipe names and is not there, and for doubles."""
    header = [cell.strip() for cell in next(reader, [])]
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    if twice:
        raise DataError(f"{entry.name}:1", f"the column {twice[0]!r} stands twice in the header")
    for name, column in entry.columns.items():
        if column not in header:
            raise DataError(f"{entry.name}:1", f"has no column {column!r} (columns.{name}); {nearest(column, header)}")
    return header


def _row(header: list[str], cells: list[str], line: int, entry: LoaderEntry) -> RowOrBad:
    source = f"{entry.name}:{line}"
    if len(cells) != len(header):
        return BadRow(
            source,
            f"has {len(cells)} cells, and the header names {len(header)} columns; a cell that holds the delimiter or a "
            "line break needs quotes",
        )
    fields: dict[str, Any] = dict(zip(header, cells, strict=True))
    for name in _LISTS:
        column = entry.columns.get(name, name)
        text = fields.get(column, "").strip()
        if text.startswith("["):
            try:
                fields[column] = json.loads(text)
            except ValueError as error:
                return BadRow(source, f"{column} begins like a JSON list and is none: {error}")
    return converted(Row(source, line, fields), entry, convert)
