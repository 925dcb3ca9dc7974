"""Rows of a file with the line each begins on. A row that is not a JSON object is a problem, not an end.

This file knows JSON lines and JSON lists; what the keys of a row mean stands in ``loaders/`` and ``styles.py``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import yaml

from curr_reft.data.frame import FrameKind
from curr_reft.errors import DataError


@dataclass(frozen=True)
class Row:
    """One JSON object and where it stands."""

    source: str  # "file:line", the file as the recipe gives it
    line: int
    fields: dict[str, Any]
    boxes: FrameKind | None = None  # what its boxes are given in, where its format says so; else the entry's


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    source: str
    reason: str


RowOrBad: TypeAlias = Row | BadRow


@dataclass(frozen=True)
class RawRow:
    """A row not yet parsed: a line of a JSONL file, or an element of a JSON list."""

    line: int
    text: bytes | str

    def parse(self, name: str) -> RowOrBad:
        source = f"{name}:{self.line}"
        try:
            text = self.text if isinstance(self.text, str) else self.text.decode("utf-8")
            value = json.loads(text)
        except UnicodeDecodeError as error:
            return BadRow(source, f"not UTF-8: {error.reason} at byte {error.start}")
        except json.JSONDecodeError as error:
            return BadRow(source, f"not JSON: {error.msg} at column {error.colno}")
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested without end
            return BadRow(source, f"not usable JSON: {error}")
        if not isinstance(value, dict):
            return BadRow(source, f"a row must be a JSON object, not {type(value).__name__}")
        return Row(source, self.line, value)


def raw_rows(path: Path, name: str) -> Iterator[RawRow]:
    """The rows of a JSONL file or a JSON list, unparsed, empty lines left out. A JSON list is read whole, a JSONL file
    line by line. Raises DataError for a missing file."""
    try:
        with path.open("rb") as file:
            if _first_byte(file) == b"[":
                yield from _list_rows(file.read().removeprefix(_BYTE_ORDER_MARK), name)
                return
            for line, text in enumerate(file, start=1):
                text = text.removeprefix(_BYTE_ORDER_MARK) if line == 1 else text
                if text.strip():
                    yield RawRow(line, text.rstrip(b"\n"))
    except OSError as error:
        raise DataError(name, f"cannot be read: {error.strerror} ({path})") from error


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # as Windows tools write it


def _first_byte(file: BinaryIO) -> bytes:
    """The first byte that is not white space; the file is left at its beginning."""
    text = b""
    while not text and (chunk := file.read(4096)):
        text = chunk.removeprefix(_BYTE_ORDER_MARK).lstrip()
    file.seek(0)
    return text[:1]


def _list_rows(data: bytes, name: str) -> Iterator[RawRow]:
    """Elements of a JSON list, one at a time, so that each knows the line it begins on."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(name, f"not UTF-8: {error.reason} at byte {error.start}") from error
    decoder = json.JSONDecoder()
    position, line, counted = text.index("[") + 1, 1, 0

    def skip_space(start: int) -> int:
        while start < len(text) and text[start] in " \t\r\n":
            start += 1
        return start

    def broken(reason: str) -> DataError:
        where = text.count("\n", 0, min(position, len(text))) + 1
        return DataError(f"{name}:{where}", f"the JSON list is broken here: {reason}")

    position = skip_space(position)
    if text[position : position + 1] == "]":
        return
    while True:
        start = position = skip_space(position)
        try:
            _, position = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise broken(getattr(error, "msg", str(error))) from error
        line, counted = line + text.count("\n", counted, start), start
        yield RawRow(line, text[start:position])
        position = skip_space(position)
        if text[position : position + 1] == "]":
            return
        if text[position : position + 1] != ",":
            raise broken("expected , or ] after an element")
        position += 1


def composition(path: Path, name: str, key: str) -> list[tuple[str, str]]:
    """(json_path, sampling) of each entry under ``key`` (``train_datasets``, ``val_datasets``) of a YAML file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(name, f"cannot be read: {error.strerror} ({path})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise DataError(f"{name}:{mark.line + 1}" if mark else name, f"not YAML: {error}") from error
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(name, f"must hold a list {key} of entries with json_path and sampling_strategy")
    found = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("json_path"), str):
            raise DataError(name, f"{key}, entry {number}: json_path is missing")
        if unknown := sorted(set(map(str, entry)) - {"json_path", "sampling_strategy"}):
            raise DataError(
                name, f"{key}, entry {number}: unknown key {unknown[0]}; known: json_path, sampling_strategy"
            )
        found.append((entry["json_path"], str(entry.get("sampling_strategy", "all"))))
    return found
