"""The elements of a large JSON file one at a time, in memory that does not grow with the file.

Published annotations are one JSON value: a list of rows, or an object of lists (``images``, ``annotations``, ...) of
hundreds of megabytes, often on a single line. Read whole they take several times their size as Python objects; here
only the element at hand is decoded.
"""

import codecs
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from curr_reft.data.opening import conversion_hint, open_data
from curr_reft.errors import DataError

Pairs: TypeAlias = Callable[[list[tuple[str, Any]]], Any]

CHUNK = 1 << 20  # bytes read at once

_MAY_GO_ON = ("", *".eE")


@dataclass(frozen=True)
class Element:
    """One value of a file: an element of a list, or what stands under a key of the outermost object."""

    key: str  # of the outermost object; empty where the file is a list
    index: int | None  # its place in the list from 0; None: the value under ``key`` is no list
    line: int  # it begins on
    value: Any

    @property
    def place(self) -> str:
        """``annotations[17]``, as a message names it."""
        return self.key if self.index is None else f"{self.key}[{self.index}]"


def elements(path: Path, name: str, pairs: Pairs | None = None) -> Iterator[Element]:
    """Of a JSON list: its elements. Of an object: the elements of each list under a key, and other values as they are.
    ``pairs`` makes an object of its keys and values, and raises ValueError for those that make none.

    Raises DataError(file:line) where the JSON is broken, and for a file that cannot be read.
    """
    with open_data(path, name) as file:
        yield from _elements(_Reader(file, name, pairs))


def _elements(reader: "_Reader") -> Iterator[Element]:
    first = reader.peek()
    if first == "[":
        yield from _list(reader, "")
    elif first == "{":
        reader.take("{")
        while reader.peek() != "}":
            key = reader.value()
            if not isinstance(key, str):
                raise reader.broken("expected a key in quotes")
            reader.take(":")
            if reader.peek() == "[":
                yield from _list(reader, key)
            else:
                line = reader.line
                yield Element(key, None, line, reader.value())
            if reader.peek() != "}":
                reader.take(",")
        reader.take("}")
    else:
        raise reader.broken("expected a list or an object")
    if reader.peek():
        raise reader.broken("something follows the end of the JSON")


def _list(reader: "_Reader", key: str) -> Iterator[Element]:
    reader.take("[")
    index = 0
    while reader.peek() != "]":
        line = reader.line
        yield Element(key, index, line, reader.value())
        index += 1
        if reader.peek() != "]":
            reader.take(",")
    reader.take("]")


class _Reader:
    """The text of a file from a moving place on; what was read is forgotten."""

    def __init__(self, file: BinaryIO, name: str, pairs: Pairs | None) -> None:
        self.line = 1  # of the place, from 1
        self._file = file
        self._name = name
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._json = json.JSONDecoder(object_pairs_hook=pairs)
        self._text = ""
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is not white space, left in place; empty at the end of the file."""
        while True:
            start = self._at
            while start < len(self._text) and self._text[start] in " \t\r\n":
                start += 1
            self._advance(start)
            if start < len(self._text):
                return self._text[start]
            if not self._more(CHUNK):
                return ""

    def take(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self.broken(f"expected {character} and found {found or 'the end of the file'}")
        self._advance(self._at + 1)

    def value(self) -> Any:
        """The JSON value that begins here."""
        self.peek()
        size = CHUNK
        while True:
            error: json.JSONDecodeError | None = None
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as caught:
                error = caught
            except (ValueError, RecursionError) as caught:  # a number of thousands of digits, brackets without end
                raise self.broken(str(caught)) from caught
            # A number that is cut at the end of the text ("12", "12.", "12e") reads as one that is whole.
            if error is None and (self._ended or self._text[end : end + 1] not in _MAY_GO_ON):
                self._advance(end)
                return value
            if not self._more(size) and error is not None:
                raise self.broken(error.msg) from error
            size *= 2  # so that an element of any length is decoded a few times only

    def broken(self, reason: str) -> DataError:
        return DataError(f"{self._name}:{self.line}", f"the JSON is broken here: {reason}")

    def _advance(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self, size: int) -> bool:
        """Reads on; False when the file has ended."""
        if self._ended:
            return False
        data = self._file.read(size)
        self._ended = not data
        try:
            new = self._decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            around = data[max(0, error.start - 20) :][:200].rpartition(b"\n")[0] or data[error.start :][:200]
            raise self.broken(f"not UTF-8: {error.reason}{conversion_hint(around)}") from error
        self._text = self._text[self._at :] + new
        self._at = 0
        return not self._ended
