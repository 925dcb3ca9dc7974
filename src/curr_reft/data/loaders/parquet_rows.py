"""The rows of a Parquet file as they are, a few at a time: for published tables whose columns are named."""

from collections.abc import Iterator
from pathlib import Path

from curr_reft.data.rows import Row
from curr_reft.errors import DataError

AT_ONCE = 256  # rows


def table_columns(path: Path, name: str) -> list[str]:
    """The names of the columns. Raises DataError for what is no Parquet file."""
    from pyarrow import ArrowException, parquet

    try:
        return list(parquet.read_schema(path).names)
    except (OSError, ArrowException) as error:
        raise DataError(name, f"is no readable Parquet file: {error}") from error


def table_rows(path: Path, name: str, columns: tuple[str, ...]) -> Iterator[Row]:
    """Rows with these columns, all of which must be there. Raises DataError."""
    from pyarrow import ArrowException, parquet

    known = table_columns(path, name)
    if missing := [column for column in columns if column not in known]:
        raise DataError(name, f"has no column {missing[0]}; columns found: {', '.join(known)}")
    place = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=AT_ONCE, columns=list(columns)):
                for fields in batch.to_pylist():
                    yield Row(f"{name}:rows[{place}]", place + 1, fields)
                    place += 1
    except (OSError, ArrowException) as error:
        raise DataError(f"{name}:rows[{place}]", f"cannot be read: {error}") from error
