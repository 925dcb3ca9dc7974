"""Rows of a file with the line each begins on. A row that is not a JSON object is a problem, not an end.

This file knows JSON lines and JSON lists; what the keys of a row mean stands in ``loaders/`` and ``styles.py``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

from curr_reft import recipe_source
from curr_reft.data.frame import FrameKind
from curr_reft.data.loaders.json_elements import elements
from curr_reft.data.opening import HEAD, conversion_hint, open_data
from curr_reft.errors import DataError, RecipeError


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
    unverified: bool = False  # the time ran out before its truth was verified: it may be right


RowOrBad: TypeAlias = Row | BadRow


def rows_of(path: Path, name: str) -> Iterator[RowOrBad]:
    """The rows of a JSONL file or a JSON list, one at a time, empty lines left out. Raises DataError for a file that
    cannot be read, and for a list that is no JSON."""
    with open_data(path, name) as file:
        if _first_byte(file) != b"[":
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield _line_row(text.rstrip(b"\n"), f"{name}:{line}", line)
            return
    before, same = 0, 0
    for element in elements(path, name, _unique):
        # Many rows may begin on one line; all but the first are told apart by their number on it.
        before, same = element.line, same + 1 if element.line == before else 1
        source = f"{name}:{element.line}" if same == 1 else f"{name}:{element.line}#{same}"
        yield _row(element.value, source, element.line)


def _first_byte(file: BufferedReader) -> bytes:
    """The first byte that is not white space; the file is left at its beginning."""
    return file.peek(HEAD).lstrip()[:1]


def _line_row(data: bytes, source: str, line: int) -> RowOrBad:
    try:
        return _row(json.loads(data.decode("utf-8"), object_pairs_hook=_unique), source, line)
    except UnicodeDecodeError as error:
        return BadRow(source, f"not UTF-8: {error.reason} at byte {error.start}{conversion_hint(data)}")
    except json.JSONDecodeError as error:
        return BadRow(source, f"not JSON: {error.msg} at column {error.colno}{_remedy(error.msg)}")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets nested without end
        return BadRow(source, f"not usable JSON: {error}")


def _remedy(message: str) -> str:
    is_escape = "escape" in message
    return "; a backslash that JSON does not know is written twice (\\\\sqrt for \\sqrt)" if is_escape else ""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. One that gives a key twice could mean either value. Raises ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place]))
        raise ValueError(f"the key {twice!r} stands twice in one object; leave one of them out")
    return found


def _row(value: Any, source: str, line: int) -> RowOrBad:
    if not isinstance(value, dict):
        return BadRow(source, f"a row must be a JSON object, not {type(value).__name__}")
    return Row(source, line, value)


def composition(path: Path, name: str, key: str) -> list[tuple[str, str]]:
    """(json_path, sampling) of each entry under ``key`` (``train_datasets``, ``val_datasets``) of a YAML file."""
    try:
        content = recipe_source.parse(path.read_text(encoding="utf-8-sig"), name, {})
    except OSError as error:
        raise DataError(name, f"cannot be read: {error.strerror} ({path})") from error
    except UnicodeDecodeError as error:
        raise DataError(name, f"not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except RecipeError as error:
        place, _, reason = str(error).removeprefix(name).partition(": ")
        raise DataError(f"{name}{place}", reason) from error
    entries = content.get(key) if isinstance(content, dict) else None
    if not entries and isinstance(content, dict) and "names" in content:
        raise DataError(name, "describes a YOLO data set; give its folder, with format: yolo")
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
