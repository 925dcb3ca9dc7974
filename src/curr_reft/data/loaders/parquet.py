"""Parquet as the Hugging Face hub holds it: one file, or a folder of shards, with the pictures inside.

A picture is what the ``Image`` feature of ``datasets`` writes, a struct of ``bytes`` and ``path`` (or a list of them),
or plain bytes. Only its place is read here (``ParquetImage``), never the bytes of a row that is not opened. Where a row
group holds paths and no bytes, pictures are files under the image root. ``ClassLabel`` columns become the names of
their classes, which ``datasets`` keeps in the schema.

What the columns mean is told by their names as for JSON rows (``by_keys.py``), or by ``columns`` as for tables. Rows
are named ``shard:row``, counted from 1 in each shard: parquet has no lines.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_reft.data.loaders import LoaderEntry, by_keys, nearest, table, table_objects
from curr_reft.data.loaders.json_rows import Convert, converted
from curr_reft.data.opening import foreign_file
from curr_reft.data.parquet_image import ParquetImage
from curr_reft.data.rows import Row, RowOrBad
from curr_reft.errors import DataError

ROWS = 256  # of a batch without the bytes of pictures
ROWS_WITH_BYTES = 16  # of a batch that must read them, as nothing else tells how many there are


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that is no parquet, and for a column the recipe names that is not there."""
    if table_objects.asked(entry):
        made = (converted(row, entry, table_objects.convert) for row in stored_rows(entry))
        yield from table_objects.rows(made, entry)
        return
    convert = convert_of(entry)
    for row in stored_rows(entry):
        yield converted(row, entry, convert)


def stored_rows(entry: LoaderEntry) -> Iterator[Row]:
    """The rows as they are, whatever their columns mean; pictures inside are places. Raises DataError."""
    for shard in shards(entry):
        name = entry.name if shard == entry.path else f"{entry.name}/{shard.relative_to(entry.path).as_posix()}"
        yield from _shard_rows(shard, name, entry)


def shards(entry: LoaderEntry) -> list[Path]:
    """The parquet files of the entry in the order of their names: of a split, if the option ``split`` names one.

    The hub names shards ``data/SPLIT-00000-of-00004.parquet``, and converted data sets ``SUBSET/SPLIT/0000.parquet``.
    """
    if not entry.path.is_dir():
        return [entry.path]
    every = sorted(entry.path.rglob("*.parquet"))
    splits = {_split(path, entry.path) for path in every} - {""}
    wanted = entry.options.get("split")
    if wanted is None:
        if len(splits) > 1:
            raise DataError(entry.name, f"holds the splits {', '.join(sorted(splits))}; name one (options.split)")
        return every
    chosen = [path for path in every if _split(path, entry.path) == wanted]
    if not chosen:
        raise DataError(entry.name, f"option split: there is no {wanted!r}; {nearest(wanted, splits)}")
    return chosen


def _split(path: Path, root: Path) -> str:
    """``train`` of ``train-00000-of-00004.parquet`` and of ``train/0000.parquet``; empty where nothing names one."""
    stem = path.stem.split("-")
    if len(stem) >= 4 and stem[-2] == "of":
        return "-".join(stem[:-3])
    if path.stem.isdigit() and path.parent != root:
        return path.parent.name
    return path.stem if path.stem in ("train", "validation", "test") else ""


def convert_of(entry: LoaderEntry) -> Convert:
    """How rows with the columns of the entry become rows in the reference style. Raises DataError."""
    style = entry.options.get("style")
    if style is not None and style not in by_keys.STYLES:
        raise DataError(entry.name, f"option style: {style!r} is not known; {nearest(style, by_keys.STYLES)}")
    if style is not None:
        return by_keys.convert_as(style)
    return table.convert if entry.columns or "question" in entry.options else by_keys.convert


@dataclass(frozen=True)
class _Picture:
    """A column of pictures."""

    name: str
    many: bool  # a list of them in each cell
    path_leaf: str | None  # the parquet column of their paths
    bytes_leaf: int  # the place of the parquet column of their bytes


def _shard_rows(shard: Path, name: str, entry: LoaderEntry) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(shard)
    except OSError as error:
        raise DataError(name, f"cannot be read: {error.strerror or error} ({shard})") from error
    except pyarrow.ArrowInvalid as error:
        raise DataError(name, foreign_file(shard) or f"is no parquet file: {error}") from error
    with file:
        schema = file.schema_arrow
        for ours, column in table_objects.named_columns(entry, schema.names):
            if column not in schema.names:
                raise DataError(name, f"has no column {column!r} (columns.{ours}); {nearest(column, schema.names)}")
        pictures = {field.name: found for field in schema if (found := _picture(field, file.schema))}
        labels = labels_of(schema.metadata or {})
        before = 0
        for group in range(file.num_row_groups):
            metadata = file.metadata.row_group(group)
            asked = [_asked(pictures[each]) if each in pictures else each for each in schema.names]
            inside = {each.name: _has_bytes(metadata.column(each.bytes_leaf)) for each in pictures.values()}
            row, size = 0, ROWS if all(each.path_leaf for each in pictures.values()) else ROWS_WITH_BYTES
            batches = file.iter_batches(size, row_groups=[group], columns=asked, use_threads=False)
            while (batch := _next(batches, f"{name}:{before + row + 1}", shard)) is not None:
                for fields in batch:
                    for each in pictures.values():
                        if inside[each.name]:
                            fields[each.name] = _places(fields[each.name], each, shard, group, row)
                    for column, names in labels.items():
                        fields[column] = label_of(fields[column], names)
                    number = before + row + 1
                    yield Row(f"{name}:{number}", number, fields)
                    row += 1
            before += row


def _next(batches: Iterator[Any], place: str, shard: Path) -> list[dict[str, Any]] | None:
    """The rows of the next batch; None at the end. Raises DataError for a file that is damaged inside."""
    import pyarrow

    try:
        batch = next(batches, None)
        return None if batch is None else batch.to_pylist()
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(place, f"the file is damaged from this row on ({reason}): {shard}; fetch it again") from error


def _picture(field: Any, schema: Any) -> _Picture | None:
    """Whether a column holds pictures, and where. ``schema`` is parquet's own, which knows leaves."""
    import pyarrow.types as types

    many = types.is_list(field.type) or types.is_large_list(field.type)
    kind = field.type.value_type if many else field.type
    leaves = {
        schema.column(place).path: place
        for place in range(len(schema))
        if schema.column(place).path.split(".")[0] == field.name
    }
    if types.is_binary(kind) or types.is_large_binary(kind):
        return _Picture(field.name, many, None, next(iter(leaves.values())))
    if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return None
    ends = {path.rsplit(".", 1)[-1]: path for path in leaves}
    return _Picture(field.name, many, ends.get("path"), leaves[ends["bytes"]])


def _asked(picture: _Picture) -> str:
    """What is read of a column of pictures: their paths, which tell how many there are, rather than their bytes."""
    return picture.path_leaf or picture.name


def _has_bytes(column: Any) -> bool:
    """Whether any picture of a row group stands inside the file. Without statistics it does: opening will tell."""
    statistics = column.statistics
    return statistics is None or not statistics.has_null_count or statistics.null_count < column.num_values


def _places(cell: Any, picture: _Picture, shard: Path, group: int, row: int) -> Any:
    if cell is None:
        return None
    if not picture.many:
        return ParquetImage(shard, group, row, picture.name)
    return [ParquetImage(shard, group, row, picture.name, index) for index in range(len(cell))]


def labels_of(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """Columns of numbered classes and their names, from the features that ``datasets`` keeps in the schema."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    except ValueError:  # features are a courtesy of one library; without them a label is its number
        return {}
    return {
        name: each["names"]
        for name, each in features.items()
        if isinstance(each, dict) and each.get("_type") == "ClassLabel" and isinstance(each.get("names"), list)
    }


def label_of(value: Any, names: list[str]) -> Any:
    """The name of a numbered class; other values as they are."""
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
