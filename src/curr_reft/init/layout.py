"""Which format a file or folder of rows is in, and what its columns mean. Nothing is decoded."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from curr_reft.data.frame import box_columns, raw_boxes
from curr_reft.data.loaders import (
    COLUMNS,
    LOADERS,
    LoaderEntry,
    arrow,
    auto,
    imagefolder,
    nearest,
    parquet,
    table,
    table_objects,
)
from curr_reft.data.loaders.by_keys import STYLES
from curr_reft.data.opening import data_suffix
from curr_reft.data.rows import Row, rows_of
from curr_reft.data.styles import read_fields
from curr_reft.errors import DataError, UsageError
from curr_reft.init.choices import Choices, as_flags

LOOKED_AT = 50  # rows whose keys and cells are looked at

NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "problem", "prompt", "query", "instruction", "text", "ask", "expression"),
    "answer": (
        *("answer", "label", "solution", "target", "class", "category", "ground_truth", "truth", "bbox", "box"),
        *("labels", "classes", "response", "output", "say"),
    ),
    "image": ("image", "file_name", "filename", "file", "photo", "picture", "img", "image_path", "path", "images"),
    "task": ("task",),
    "domain": ("domain",),
    "distractors": ("distractors",),
    "category": (
        "category",
        "class",
        "label",
        "class_name",
        "category_name",
        "label_name",
        "name",
        "object",
        "species",
    ),
}
"""Names under which columns are found, the likeliest first. Cases do not matter."""

NAMES_OF_ANSWERS = frozenset(("answer", "solution", "ground_truth", "truth", "response", "output"))
"""Names of columns that hold the answer to a question, whatever boxes are beside it."""


def find_format(path: Path, given: str | None, columns: Mapping[str, str], choices: Choices) -> str:
    """A name of ``LOADERS``; rows whose columns are given are a table. Raises UsageError if it cannot be inferred."""
    if given:
        if given not in LOADERS:
            raise UsageError(f"--format {given!r} is no format; {nearest(given, LOADERS)}")
        return choices.note("format", given, "--format says so")
    try:
        name = auto.layout(LoaderEntry(path=path, name=path.name, columns=columns))
    except auto.UnclearFormatError as error:
        return _asked(choices, as_flags(error.reason))
    except DataError as error:
        raise UsageError(f"--data {path}: {as_flags(error.reason)}") from error
    if name is not None:
        why = {
            "table": "the suffix" if data_suffix(path) in table.SUFFIXES else "--column names its columns",
            "imagefolder": "the folder holds pictures",
            "voc": "the folder holds Annotations and ImageSets",
        }
        if path.is_file():
            why["coco"] = "the file holds images, annotations and categories"
        instead = "refcoco, for expressions" if name == "coco" else ""
        return choices.note("format", name, why.get(name, f"what is there is {LOADERS[name].about}"), instead)
    return _by_keys(path, choices)


def _by_keys(path: Path, choices: Choices) -> str:
    rows = [row for row in islice(rows_of(path, path.name), LOOKED_AT) if isinstance(row, Row)]
    if not rows:
        raise UsageError(f"--data {path}: none of its first {LOOKED_AT} lines is a JSON object; is it another format?")
    claims = [name for name, style in STYLES.items() if all(style.claims(row.fields) for row in rows)]
    keys = ", ".join(sorted(rows[0].fields))
    if len(claims) == 1:
        return choices.note("format", claims[0], f"the keys of its rows: {keys}")
    if len(claims) > 1:
        return _asked(choices, f"its rows ({keys}) may be in the format {' or '.join(claims)}")
    return choices.note("format", "table", f"its keys are those of no known format: {keys}", "another, by --format")


def _asked(choices: Choices, unclear: str) -> str:
    name = choices.pick("--format", list(LOADERS), "format", unclear=unclear)
    return choices.note("format", name, "asked")


def find_columns(
    path: Path, name: str, given: Mapping[str, str], options: Mapping[str, str], choices: Choices
) -> tuple[dict[str, str], dict[str, str]]:
    """(our name -> the column, for what is not called so already; the options, with a question that was typed). Raises
    UsageError where answers or questions are not found."""
    try:
        stored = _stored(path, name, given, options)
    except DataError as error:
        raise UsageError(f"--data {path}: {as_flags(str(error))}") from error
    if stored is None:
        return dict(given), dict(options)
    cells = [row.fields for row in stored]
    header = list(dict.fromkeys(key for row in cells for key in row))
    if name in ("parquet", "arrow") and not given and any(_read_by_its_keys(row, path) for row in stored):
        return {}, dict(options)
    if any(Path(str(column)).suffix.lower() in imagefolder.SUFFIXES for column in header):
        raise UsageError(
            f"--data {path}: its first line names a picture, so it has no header ({', '.join(header)}); write a first "
            "line with the names of the columns, as image, xmin, ymin, xmax, ymax, label"
        )
    chosen_options, found = dict(options), dict(given)
    why = dict.fromkeys(given, "--column says so")
    free = [column for column in header if column not in given.values()]
    objects = {} if "answer" in given else _columns_of_objects(path, free, cells)
    for ours, of_objects in objects.items():
        if ours not in found:
            found[ours] = of_objects
            why[ours] = "what it holds: boxes" if ours == "answer" else _of_categories(of_objects, cells)
            free = [each for each in free if each != of_objects and each not in table_objects.box_sides(of_objects)]
    for ours in COLUMNS:
        if ours in found or ours == "category":
            continue
        column = _named(ours, free)
        if column is None and ours == "image":
            column = _pictures(path, free, cells)
        if column is not None:
            free.remove(column)
            found[ours] = column
    if "answer" not in found:
        column = choices.pick(
            "--column answer=NAME", free, "column with the answers", unclear=_no("answers", header, path)
        )
        found["answer"], why["answer"] = column, "asked"
        free.remove(column)
    needed = name in ("table", "parquet", "arrow") and "category" not in found
    if "question" not in found and "question" not in options and needed:
        flags = '--column question=NAME, or --option "question=..." for one question of all rows'
        typed, is_column = choices.pick_or_type(
            flags,
            free,
            "column with the questions, or one question of all rows",
            unclear=_no("questions", header, path),
        )
        if is_column:
            found["question"], why["question"] = typed, "asked"
            free.remove(typed)
        else:
            chosen_options["question"] = choices.note("question", typed, "asked; it is that of every row")
    for ours, column in found.items():
        others = " or ".join(each for each in free if each)
        chosen_by = why.get(ours, "its name, or what it holds")
        choices.note(f"column {ours}", column, chosen_by, f"{others} (--column {ours}=NAME)" if others else "")
    kept = {ours: column for ours, column in found.items() if ours != column or ours == "category"}
    if name == "imagefolder":
        kept.pop("image", None)  # the format knows it
    return kept, chosen_options


def _columns_of_objects(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """``answer`` and ``category`` of a table with one object a row: four columns or one that hold a box, and its name.
    Empty for any other table. A table with a column of answers, or of questions that name the objects, has no
    category."""
    lower = {column.casefold() for column in columns}
    if lower & NAMES_OF_ANSWERS and lower & set(NAMES["question"]):
        return {}
    sides = box_columns([column for column in columns if any(_is_number(row.get(column)) for row in rows)])
    box = ", ".join(sides[0]) if sides else next((each for each in columns if _holds_boxes(each, rows)), None)
    if box is None:
        return {}
    taken = {box, *table_objects.box_sides(box), _pictures(path, columns, rows)}
    rest = [column for column in columns if column not in taken]
    category = None if lower & set(NAMES["question"]) else _named("category", rest)
    return {"answer": box} if category is None else {"category": category, "answer": box}


def _of_categories(column: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Why a column is taken for the names of objects, and a warning where these are numbers."""
    why = "the names of what is in the boxes"
    names = [row[column] for row in rows if row.get(column) not in (None, "")]
    if names and all(_is_number(name) for name in names):
        why += f"; they are numbers, so a question reads 'Where is the {names[0]} in the image?': write names if these "
        why += "stand for names"
    return why


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _holds_boxes(column: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the filled cells of a column are one box each."""
    cells = [row[column] for row in rows if row.get(column) not in (None, "")]
    found = [raw_boxes(cell) for cell in cells]
    return bool(cells) and all(each is not None and not each[2] for each in found)


def _read_by_its_keys(row: Row, path: Path) -> bool:
    """Whether the names of the columns are those of a known style of rows, and all that it needs is there."""
    entry = LoaderEntry(path=path, name=path.name)
    for style in STYLES.values():
        if style.claims(row.fields):
            try:
                read_fields(style.convert(row, entry).fields)
            except ValueError:  # what it lacks may stand in other columns
                continue
            return True
    return False


def _no(what: str, header: Sequence[str], path: Path) -> str:
    return f"--data {path}: no column is known to hold the {what}; columns are {', '.join(header) or 'none'}"


def _named(ours: str, columns: Sequence[str]) -> str | None:
    lower = {column.casefold(): column for column in reversed(columns)}
    return next((lower[name] for name in NAMES[ours] if name in lower), None)


def _pictures(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """A column whose cells end as the names of pictures do."""
    for column in columns:
        cells = [str(row.get(column, "")) for row in rows]
        if cells and all(Path(cell).suffix.lower() in imagefolder.SUFFIXES for cell in cells):
            return column
    return None


def _stored(path: Path, name: str, given: Mapping[str, str], options: Mapping[str, str]) -> list[Row] | None:
    """The first rows as the file holds them; None for a format whose columns have fixed names. Raises DataError."""
    entry = LoaderEntry(path=path, name=path.name, columns=given, options=options)
    if name == "imagefolder":
        metadata = [path / each for each in imagefolder.METADATA if (path / each).is_file()]
        if len(metadata) != 1:
            return None
        entry = LoaderEntry(path=metadata[0], name=metadata[0].name, options=options)
        name = "parquet" if metadata[0].suffix == ".parquet" else "table"
    if name in ("parquet", "arrow"):
        reader = arrow if name == "arrow" else parquet
        return list(islice(reader.stored_rows(replace(entry, columns={})), LOOKED_AT))
    if name != "table":
        return None
    return [row for row in islice(table.stored_rows(entry), LOOKED_AT) if isinstance(row, Row)]
