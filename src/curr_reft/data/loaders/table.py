"""A plain table: CSV, TSV, or JSON rows whose columns the recipe names.

``columns: {question: Frage, answer: Antwort, image: Datei}`` says which of our names has which column; a name that is
not mentioned is looked for as it is. A question that is the same for every row stands in the option ``question``, which
wins over a column that happens to have that name.

CSV is read as RFC 4180 has it: quotes, doubled quotes inside them, line breaks inside quotes; a byte order mark is
dropped. The delimiter is the one of comma, semicolon, tab and bar that occurs most in the header, unless the option
``delimiter`` names it, or Excel's first line ``sep=;``. An image or distractors that begin with ``[`` are a JSON list.
A file with the byte order mark of UTF-16 is read so; any other encoding is named by the option ``encoding``.

``columns.answer`` may name the four columns of a box, with commas between: ``xmin, ymin, xmax, ymax``. With
``columns.category`` a row is one object of a picture (``table_objects.py``).
"""

import codecs
import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from curr_reft.data.encodings import encoding_hint
from curr_reft.data.loaders import COLUMNS, LoaderEntry, nearest, table_objects
from curr_reft.data.loaders.json_rows import Convert, converted, converted_rows
from curr_reft.data.opening import data_suffix, excel_delimiter, is_wide, open_data
from curr_reft.data.rows import BadRow, Row, RowOrBad, rows_of
from curr_reft.errors import DataError

SUFFIXES = (".csv", ".tsv")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
_LISTS = ("image", "distractors")  # what a cell may hold a JSON list of; answers are read by their task
_QUOTED = re.compile(r'"[^"]*"?')


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that cannot be read, a column it does not have and broken quoting."""
    is_csv = data_suffix(entry.path) in SUFFIXES
    if table_objects.asked(entry):
        own = _csv_rows(entry, table_objects.convert) if is_csv else converted_rows(entry, table_objects.convert)
        return table_objects.rows(own, entry)
    return _csv_rows(entry, convert) if is_csv else converted_rows(entry, convert)


def stored_rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """The rows as the file holds them, whatever their columns mean. Raises DataError as ``rows`` does."""
    if data_suffix(entry.path) not in SUFFIXES:
        return rows_of(entry.path, entry.name)
    return _csv_rows(entry, lambda row, entry: row)


def convert(row: Row, entry: LoaderEntry) -> Row:
    """A row by column names as one in the reference style. Raises ValueError for a column it lacks."""
    found: dict[str, Any] = {}
    for name in COLUMNS:
        if name == "category":
            continue
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


def _csv_rows(entry: LoaderEntry, make: Convert) -> Iterator[RowOrBad]:
    name, start = entry.name, 1
    encoding = entry.options.get("encoding")
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError as error:
        raise DataError(name, f"option encoding: {encoding!r} is not known; utf-8, cp1252, ...") from error
    try:
        with open_data(entry.path, name, encoding) as file:
            lines = _lines(file, entry)
            first, before = next(lines, ""), 0
            separator = excel_delimiter(first)
            if separator is not None:
                first, before = next(lines, ""), 1
            delimiter = _delimiter(first, entry, separator)
            reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
            header = _header(reader, entry)
            start = before + reader.line_num + 1
            for cells in reader:
                if cells:  # an empty line is no row
                    yield _row(header, cells, start, entry, make)
                start = before + reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}:{start}", f"the row that begins here is broken: {error}; check its quotes") from error


def _lines(file: BinaryIO, entry: LoaderEntry) -> Iterator[str]:
    """The lines as text, one at a time, so that a wrong byte is found in its line."""
    encoding = entry.options.get("encoding") or "utf-8"
    if is_wide(encoding):
        encoding = "utf-8"  # which it is opened as
    for number, data in enumerate(file, start=1):
        try:
            yield data.decode(encoding)
        except UnicodeDecodeError as error:
            hint = encoding_hint(entry.path) or "name another one (options.encoding: cp1252, gb18030, utf-16, ...)"
            reason = f"not {encoding}: {error.reason} at byte {error.start}; {hint}"
            raise DataError(f"{entry.name}:{number}", reason) from error


def _delimiter(header: str, entry: LoaderEntry, separator: str | None = None) -> str:
    name = entry.options.get("delimiter")
    if name is not None:
        if name not in DELIMITERS:
            raise DataError(entry.name, f"option delimiter: {name!r} is not known; {nearest(name, DELIMITERS)}")
        return DELIMITERS[name]
    if separator is not None:
        return separator
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
    for name, column in table_objects.named_columns(entry, header):
        if column not in header:
            raise DataError(f"{entry.name}:1", f"has no column {column!r} (columns.{name}); {nearest(column, header)}")
    return header


def _row(header: list[str], cells: list[str], line: int, entry: LoaderEntry, make: Convert) -> RowOrBad:
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
    return converted(Row(source, line, fields), entry, make)
