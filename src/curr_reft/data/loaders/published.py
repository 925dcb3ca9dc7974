"""What the loaders of published data sets share: options, fields of other people's rows, boxes, lettered choices.

Everything that does not fit raises ValueError with the reason; ``row`` turns it into a bad row that names its place.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, BinaryIO, TypeVar
from xml.etree.ElementTree import Element

from curr_reft.data.loaders import LoaderEntry, nearest
from curr_reft.data.opening import foreign_file, open_data, without_base64
from curr_reft.data.rows import BadRow, Row, RowOrBad
from curr_reft.errors import DataError

MOST_DISTRACTORS = 12  # other boxes a row carries: a choice needs three, and some pictures hold a hundred objects

Kind = TypeVar("Kind")


def task_of(entry: LoaderEntry, *tasks: str, default: str | None = None) -> str:
    """The task the entry names, one of ``tasks``; without a default it must be named. Raises DataError."""
    if entry.task is None and default is not None:
        return default
    if entry.task not in tasks:
        given = "names no task" if entry.task is None else f"cannot be read as task {entry.task!r}"
        raise DataError(entry.name, f"{given}; set task on the entry of the recipe to one of {', '.join(tasks)}")
    return entry.task


def option(entry: LoaderEntry, key: str, values: Collection[str], default: str | None = None) -> str:
    """The value of an option, one of ``values``; without a default it must be given. Raises DataError."""
    value = entry.options.get(key, default)
    if value is None:
        raise DataError(entry.name, f"needs options.{key} on its entry of the recipe; one of {', '.join(values)}")
    if value not in values:
        raise DataError(entry.name, f"options.{key} is {value!r}; {nearest(value, values)}")
    return value


def whole_number(entry: LoaderEntry, key: str, default: int) -> int:
    """The value of an option that is a number from 0. Raises DataError."""
    value = entry.options.get(key, str(default))
    if not re.fullmatch(r"\d{1,12}", value):
        raise DataError(entry.name, f"options.{key} is {value!r}; it must be a whole number from 0")
    return int(value)


def refuse_options(entry: LoaderEntry, reason: str) -> None:
    """Raises DataError for options that would have no effect."""
    if entry.options:
        raise DataError(entry.name, f"options.{next(iter(entry.options))} does not apply: {reason}")


def row(source: str, line: int, make: Callable[[], dict[str, Any]]) -> RowOrBad:
    """The row of what ``make`` returns, boxes in pixels; the bad row of the ValueError it raises."""
    try:
        return Row(source, line, make(), boxes="pixels")
    except ValueError as error:
        return BadRow(source, str(error))


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a JSON object."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object, not {_short(value)}")
    return value


def get(fields: Mapping[str, Any], key: str, kind: type[Kind]) -> Kind:
    """``fields[key]``, which must be there and of one kind."""
    if key not in fields:
        raise ValueError(f"has no key {key}; keys found: {', '.join(map(str, fields)) or 'none'}")
    value = fields[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{key} must be {_KINDS.get(kind, kind.__name__)}, not {_short(value)}")
    return value


_KINDS: dict[type, str] = {str: "text", int: "a whole number", list: "a list", dict: "an object", float: "a number"}


def text(fields: Mapping[str, Any], key: str) -> str:
    """``fields[key]`` as a text that is not empty."""
    value = get(fields, key, str).strip()
    if not value:
        raise ValueError(f"{key} is empty")
    return value


def numbers(value: Any, key: str) -> tuple[float, float, float, float]:
    """Four finite numbers."""
    if not (isinstance(value, list | tuple) and len(value) == 4 and all(_is_number(each) for each in value)):
        raise ValueError(f"{key} must be four numbers, not {_short(value)}")
    return (float(value[0]), float(value[1]), float(value[2]), float(value[3]))


def corners(value: Any, key: str = "bbox") -> list[float]:
    """``[x, y, width, height]``, as COCO and all that grew from it write a box, as ``[x1, y1, x2, y2]``."""
    x, y, width, height = numbers(value, key)
    if width <= 0 or height <= 0:
        raise ValueError(f"{key} {_short(value)} is empty: width and height must be above 0")
    return [x, y, x + width, y + height]


def check_corners(value: Any, key: str = "bbox") -> list[float]:
    """``[x1, y1, x2, y2]`` as it is."""
    x1, y1, x2, y2 = numbers(value, key)
    if x1 >= x2 or y1 >= y2:
        raise ValueError(f"{key} {_short(value)} is empty or inverted: x1 < x2 and y1 < y2 are needed")
    return [x1, y1, x2, y2]


def lettered(question: str, choices: Sequence[Any], right: int) -> tuple[str, str]:
    """The question with its choices under letters, and the letter of the right one (counted from 0)."""
    if not 2 <= len(choices) <= len(ascii_uppercase):
        raise ValueError(f"has {len(choices)} choices; 2 to {len(ascii_uppercase)} can be lettered")
    if not 0 <= right < len(choices):
        raise ValueError(f"the right choice is number {right} (from 0) of {len(choices)}")
    texts = [str(choice).strip() for choice in choices]
    if not all(texts):
        raise ValueError(f"a choice is empty: {_short(list(choices))}")
    lines = [f"{letter}. {choice}" for letter, choice in zip(ascii_uppercase, texts, strict=False)]
    return "\n".join([question, "Choices:", *lines]), ascii_uppercase[right]


def read_object(path: Path, name: str) -> dict[str, Any]:
    """A small JSON file that holds an object. Raises ValueError."""
    try:
        with open_data(path, name) as file:
            value = json.loads(file.read())
    except DataError as error:
        raise ValueError(f"{error.source} {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not usable JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} must hold a JSON object, not {_short(value)}")
    return value


def require_folder(entry: LoaderEntry, *inside: str) -> None:
    """The entry must be a folder that holds what is named. Raises DataError."""
    if not entry.path.is_dir():
        if reason := foreign_file(entry.path):
            raise DataError(entry.name, reason)
        raise DataError(entry.name, f"{entry.path} is not a folder; path must be the folder that holds {inside[0]}")
    for each in inside:
        if not (entry.path / each).exists():
            raise DataError(entry.name, f"{entry.path} holds no {each}; docs/datasets.md shows the expected tree")


def refuse_entities(file: BinaryIO) -> None:
    """Raises ValueError for XML with a document type, before it is parsed: entities, which can grow without bound or
    read other files, are declared nowhere else."""
    before = b""
    while chunk := file.read(1 << 20):
        text = before + chunk
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            raise ValueError("declares a document type or entities, which are not read; remove the declaration")
        before = chunk[-16:]


def xml_number(found: Element, key: str) -> float:
    """An attribute that must be a finite number. Raises ValueError."""
    try:
        value = float(found.get(key) or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{key} of {found.tag} must be a finite number, not {found.get(key)!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: Any, limit: int = 80) -> str:
    shown = without_base64(repr(value))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
