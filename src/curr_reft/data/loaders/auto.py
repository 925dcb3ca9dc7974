"""The format of an entry that names none: told by folder, suffix and the keys of each row. Between two, it asks."""

from collections.abc import Iterator

from curr_reft.data.loaders import LOADERS, LoaderEntry, imagefolder, table
from curr_reft.data.loaders.by_keys import convert
from curr_reft.data.loaders.json_rows import converted_rows
from curr_reft.data.rows import RowOrBad
from curr_reft.errors import DataError


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a layout that is not known, and for one that could be several."""
    name = layout(entry)
    return LOADERS[name].rows(entry) if name else converted_rows(entry, convert)


def layout(entry: LoaderEntry) -> str | None:
    """The format that folder or suffix tell; None for JSON rows, which are told by their keys. Raises DataError."""
    suffix = entry.path.suffix.lower()
    if entry.path.is_dir():
        return _folder(entry)
    if suffix in table.SUFFIXES:
        return "table"
    if suffix == ".parquet":
        return "parquet"
    if suffix == ".json" and _is_one_object(entry):
        raise DataError(entry.name, f"is one JSON object and no list of rows; name its format: {', '.join(LOADERS)}")
    return "table" if entry.columns else None


def _is_one_object(entry: LoaderEntry) -> bool:
    """Whether a file begins with a brace alone on its line, as indented annotations do and no JSON line does."""
    try:
        with entry.path.open("rb") as file:
            return file.readline(80).strip() == b"{"
    except OSError as error:
        raise DataError(entry.name, f"cannot be read: {error.strerror} ({entry.path})") from error


def _folder(entry: LoaderEntry) -> str:
    found = set()
    for path in entry.path.rglob("*"):
        if path.name in imagefolder.METADATA or path.suffix.lower() in imagefolder.SUFFIXES:
            found.add("imagefolder")
        elif path.suffix.lower() == ".parquet":
            found.add("parquet")
        if len(found) > 1:
            break
    if len(found) == 1:
        return found.pop()
    several = "may be imagefolder or parquet" if found else "is a folder of no format that can be told"
    raise DataError(entry.name, f"{several}; set format on the entry of the recipe: {', '.join(LOADERS)}")
