"""A picture inside a parquet or arrow file, as the Hugging Face hub and ``datasets`` store them: named by its place,
read again when opened.

The bytes of no row are kept. Parquet gives whole pages, not single cells, so each thread keeps one reader that goes
forward through a row group: rows opened in the order of the file cost one pass over it, any other order costs the part
of the row group before the row. A page of pictures may be as large as the row group: the ``datasets`` library writes
100 rows to one, other writers a million.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from curr_reft.data.images import StoredImage
from curr_reft.data.opening import foreign_file
from curr_reft.errors import DataError

ROWS = 16  # of a batch
BUFFER = 1 << 20  # bytes read at a time, instead of all of a row group's column
_readers = threading.local()


@dataclass(frozen=True)
class ParquetImage(StoredImage):
    """One picture of ``column``: of its cell, or the one at ``index`` where the cell is a list."""

    file: Path
    row_group: int
    row: int  # of the row group, from 0
    column: str
    index: int | None = None

    @property
    def place(self) -> str:
        index = "" if self.index is None else f"[{self.index}]"
        return f"{self.file}#{self.row_group}/{self.row}/{self.column}{index}"

    @property
    def label(self) -> str:
        return repr(self.column if self.index is None else f"{self.column}[{self.index}]")

    def stored(self) -> BytesIO:
        """Raises DataError for a file that is gone or changed, and for a cell without bytes."""
        try:
            cell = _cell(self.file, self.row_group, self.column, self.row)
        except (OSError, ValueError, IndexError, StopIteration) as error:
            raise self.error(f"cannot be read from {self.file} ({error}); was the file changed?") from error
        return _bytes(self, cell, self.index)


@dataclass(frozen=True)
class ArrowImage(StoredImage):
    """One picture of ``column`` in a file that ``datasets`` saved: of its cell, or the one at ``index`` of a list."""

    file: Path
    batch: int
    row: int  # of the batch, from 0
    column: str
    index: int | None = None

    @property
    def place(self) -> str:
        index = "" if self.index is None else f"[{self.index}]"
        return f"{self.file}#{self.batch}/{self.row}/{self.column}{index}"

    @property
    def label(self) -> str:
        return repr(self.column if self.index is None else f"{self.column}[{self.index}]")

    def stored(self) -> BytesIO:
        """Raises DataError for a file that is gone or changed, and for a cell without bytes."""
        try:
            status = self.file.stat()
            batches = _mapped(self.file, os.getpid(), status.st_mtime_ns, status.st_size)
            cell = batches[self.batch].column(self.column)[self.row].as_py()
        except (OSError, ValueError, IndexError, KeyError) as error:
            raise self.error(f"cannot be read from {self.file} ({error}); was the file changed?") from error
        return _bytes(self, cell, self.index)


def _bytes(image: StoredImage, cell: Any, index: int | None) -> BytesIO:
    """Raises DataError for a cell without bytes."""
    if index is not None:
        cell = cell[index] if cell is not None and index < len(cell) else None
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise image.error("holds no bytes")
    return BytesIO(data)


def arrow_batches(file: Path, name: str) -> Iterator[tuple[int, Any]]:
    """The record batches of an arrow file with their numbers; the file is mapped, not read. Raises DataError."""
    try:
        status = file.stat()
        yield from enumerate(_mapped(file, os.getpid(), status.st_mtime_ns, status.st_size))
    except OSError as error:
        raise DataError(name, f"cannot be read: {error.strerror or error} ({file})") from error
    except ValueError as error:  # arrow's own errors are of this kind
        raise DataError(name, foreign_file(file) or f"is no arrow file, or a damaged one: {error}") from error


@lru_cache(maxsize=16)
def _mapped(file: Path, process: int, changed: int, size: int) -> list[Any]:
    """The batches of a mapped file: places in it, of which a picture reads its own."""
    import pyarrow

    source = pyarrow.memory_map(str(file))
    try:
        return list(pyarrow.ipc.open_stream(source))
    except pyarrow.ArrowInvalid:  # a file with an index at its end, as other writers make
        reader = pyarrow.ipc.open_file(pyarrow.memory_map(str(file)))
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


@dataclass
class _Reader:
    """Goes forward through one column of one row group."""

    place: tuple[int, Path, int, str]  # process, too: a reader does not survive a fork
    stamp: tuple[int, int]  # of the file: another content has another
    batches: Iterator[Any]
    first: int = 0  # row of the group that ``cells`` begins with
    cells: Any = ()  # arrow array of the batch

    def cell(self, row: int) -> Any:
        while row >= self.first + len(self.cells):
            self.first += len(self.cells)
            self.cells = next(self.batches).column(0)
        return self.cells[row - self.first].as_py()


def _cell(file: Path, row_group: int, column: str, row: int) -> Any:
    status = file.stat()
    place, stamp = (os.getpid(), file, row_group, column), (status.st_mtime_ns, status.st_size)
    reader: _Reader | None = getattr(_readers, "last", None)
    if reader is None or reader.place != place or reader.stamp != stamp or row < reader.first:
        import pyarrow.parquet

        opened = pyarrow.parquet.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False)
        batches = opened.iter_batches(ROWS, row_groups=[row_group], columns=[column], use_threads=False)
        reader = _readers.last = _Reader(place, stamp, batches)
    try:
        return reader.cell(row)
    except BaseException:
        _readers.last = None  # a generator that raised gives nothing more
        raise
