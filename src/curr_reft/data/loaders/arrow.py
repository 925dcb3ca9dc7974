"""What ``datasets`` writes with ``save_to_disk``: a folder of arrow files with ``state.json``, or one with a folder for
each split and ``dataset_dict.json``. Columns, classes and pictures inside mean what they do in ``parquet``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from curr_reft.data.loaders import LoaderEntry, nearest, parquet, table_objects
from curr_reft.data.loaders.json_rows import converted
from curr_reft.data.loaders.published import read_object
from curr_reft.data.parquet_image import ArrowImage, arrow_batches
from curr_reft.data.rows import Row, RowOrBad
from curr_reft.errors import DataError

STATE, SPLITS = "state.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Whether ``save_to_disk`` wrote a folder."""
    return (folder / SPLITS).is_file() or ((folder / STATE).is_file() and any(folder.glob("*.arrow")))


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a folder that is not one of these, and for a column the recipe names that is not there."""
    if table_objects.asked(entry):
        made = (converted(row, entry, table_objects.convert) for row in stored_rows(entry))
        yield from table_objects.rows(made, entry)
        return
    convert = parquet.convert_of(entry)
    for row in stored_rows(entry):
        yield converted(row, entry, convert)


def stored_rows(entry: LoaderEntry) -> Iterator[Row]:
    """The rows as they are, whatever their columns mean; pictures inside are places. Raises DataError."""
    entry = _split(entry)
    count = 0
    for file in _files(entry):
        name = entry.name if file == entry.path else f"{entry.name}/{file.name}"
        for row in _rows(file, name, entry):
            count += 1
            yield replace(row, source=f"{entry.name}:{count}", line=count)


def _split(entry: LoaderEntry) -> LoaderEntry:
    """The entry of one split. Raises DataError."""
    wanted = entry.options.get("split")
    if not (entry.path / SPLITS).is_file():
        if wanted is not None and entry.path.name != wanted:
            raise DataError(entry.name, f"option split: {wanted!r} does not apply: the folder holds no {SPLITS}")
        return entry
    try:
        splits = [str(each) for each in read_object(entry.path / SPLITS, SPLITS).get("splits", [])]
    except ValueError as error:
        raise DataError(entry.name, str(error)) from error
    if wanted is None and len(splits) != 1:
        raise DataError(entry.name, f"holds the splits {', '.join(splits)}; name one (options.split)")
    name = wanted or splits[0]
    if name not in splits:
        raise DataError(entry.name, f"option split: there is no {name!r}; {nearest(name, splits)}")
    return replace(entry, path=entry.path / name, name=f"{entry.name}/{name}")


def _files(entry: LoaderEntry) -> list[Path]:
    """The arrow files in the order of their rows. Raises DataError."""
    if not entry.path.is_dir():
        return [entry.path]
    try:
        state = read_object(entry.path / STATE, STATE)
        files = [entry.path / Path(each["filename"]).name for each in state["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(entry.name, f"is no folder of datasets' save_to_disk: {error}") from error
    if state.get("_indices_data_files") or state.get("_indices_files"):  # written by versions before 2
        raise DataError(entry.name, "holds indices of selected rows; save it again: flatten_indices(), save_to_disk()")
    return files


def _rows(file: Path, name: str, entry: LoaderEntry) -> Iterator[Row]:
    count = 0
    for place, batch in arrow_batches(file, name):
        schema = batch.schema
        for ours, column in table_objects.named_columns(entry, schema.names):
            if column not in schema.names:
                raise DataError(name, f"has no column {column!r} (columns.{ours}); {nearest(column, schema.names)}")
        pictures = {field.name: many for field in schema if (many := _is_picture(field.type)) is not None}
        labels = parquet.labels_of(schema.metadata or {})
        plain = batch.select([column for column in schema.names if column not in pictures])
        columns = {column: _paths(batch.column(column)) for column in pictures}
        for row, fields in enumerate(plain.to_pylist()):
            for column, names in labels.items():
                if column in fields:
                    fields[column] = parquet.label_of(fields[column], names)
            for column, many in pictures.items():
                fields[column] = _cell(columns[column][row], ArrowImage(file, place, row, column), many)
            count += 1
            yield Row(f"{name}:{count}", count, fields)


def _is_picture(kind: Any) -> bool | None:
    """Whether a column holds several pictures a row; None for one without pictures."""
    import pyarrow.types as types

    many = types.is_list(kind) or types.is_large_list(kind)
    inner = kind.value_type if many else kind
    if types.is_binary(inner) or types.is_large_binary(inner):
        return many
    return many if types.is_struct(inner) and inner.get_field_index("bytes") >= 0 else None


def _paths(column: Any) -> list[Any]:
    """Of each picture (or each of a list) its path if it is no more than one, True where the bytes are inside, None
    where there is nothing. No bytes are copied."""
    import pyarrow
    import pyarrow.types as types

    if types.is_list(column.type) or types.is_large_list(column.type):
        inner, offsets = _paths(column.values), column.offsets.to_pylist()
        valid = column.is_valid().to_pylist()
        return [inner[offsets[row] : offsets[row + 1]] if valid[row] else None for row in range(len(column))]
    if not types.is_struct(column.type):
        return [True if each else None for each in column.is_valid().to_pylist()]
    valid, inside = column.is_valid().to_pylist(), column.field("bytes").is_valid().to_pylist()
    named = column.type.get_field_index("path") >= 0
    paths = column.field("path").cast(pyarrow.string()).to_pylist() if named else [None] * len(column)
    return [None if not valid[row] else True if inside[row] else paths[row] for row in range(len(column))]


def _cell(found: Any, image: ArrowImage, many: bool) -> Any:
    if not many:
        return image if found is True else found
    return found and [replace(image, index=index) if each is True else each for index, each in enumerate(found)]
