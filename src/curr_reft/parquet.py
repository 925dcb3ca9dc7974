"""Rows of plain values to Parquet files and back, whole or not there."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from curr_reft.files import write_atomic


def encode_rows(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """All ``rows`` as the content of a Parquet file."""
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """All ``rows`` as one file; its folder is made. Raises DiskFullError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, encode_rows(rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that ``write_rows`` wrote."""
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows
