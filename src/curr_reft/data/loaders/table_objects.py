"""A table with one object a row, as detection tables are: the picture, the category, the box.

With ``columns: {image: filename, category: class, answer: "xmin, ymin, xmax, ymax"}`` a row of the file is one object.
The questions are those of COCO (``coco.py``), and only what has one answer is asked. Detection: a category with exactly
one object in the picture. Dense detection: all objects of a category. Classification: the categories of the picture.

A question of the recipe may hold ``{category}``. Without it, one question is asked of every picture, whatever the
categories of its objects are. A row without a box is a picture without objects. The rows of the file are kept while it
is read, since the objects of a picture may be anywhere in it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from curr_reft.data.frame import box_columns
from curr_reft.data.images import StoredImage
from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.objects import LISTED, which_categories
from curr_reft.data.loaders.published import MOST_DISTRACTORS, option, task_of
from curr_reft.data.rows import BadRow, Row, RowOrBad
from curr_reft.errors import DataError

CATEGORY = "{category}"
_QUESTIONS = {
    "detection": f"Where is the {CATEGORY} in the image?",
    "dense_detection": f"Where are all objects of the category {CATEGORY} in the image?",
}


def asked(entry: LoaderEntry) -> bool:
    """Whether the recipe names the columns of objects: a category, or the four numbers of a box."""
    return "category" in entry.columns or bool(box_sides(entry.columns.get("answer", "")))


def convert(row: Row, entry: LoaderEntry) -> Row:
    """The row as one object: its image, category, question and box. Raises ValueError for a column it lacks."""
    columns = entry.columns
    for name, column in columns.items():
        if name != "answer" and column not in row.fields:
            raise ValueError(f"has no column {column} ({name}); its columns are {', '.join(map(str, row.fields))}")
    cells = {name: row.fields.get(columns.get(name, name)) for name in ("image", "category", "question", "domain")}
    if "category" not in columns:
        cells["category"] = ""
    if cells["image"] in (None, ""):
        raise ValueError(f"has no image in the column {columns.get('image', 'image')}")
    if "category" in columns and str(cells["category"] or "").strip() == "":
        cells["category"] = None
    fields: dict[str, Any] = {**cells, "box": None, "error": None}
    try:
        fields["box"] = answer_of(row, entry)
        if fields["box"] is not None and cells["category"] is None:
            raise ValueError(f"has no category in the column {columns['category']}")
    except ValueError as error:
        fields["error"] = str(error)  # said by ``rows``, which leaves the questions of this picture out
    return Row(row.source, row.line, fields)


def rows(objects: Iterable[RowOrBad], entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category of a picture, or a picture. Raises DataError for a task that objects cannot be asked for."""
    task = task_of(entry, "detection", "dense_detection", "classification")
    for name in ("task", "distractors"):
        if name in entry.columns:
            raise DataError(entry.name, f"columns.{name} does not apply to a table of objects; remove it")
    if task == "classification" and "category" not in entry.columns:
        raise DataError(entry.name, "needs columns.category for the task classification")
    pictures: dict[str, list[Row]] = {}
    doubtful: set[str] = set()
    for row in objects:
        if isinstance(row, BadRow):
            yield row
            continue
        key = _key(row.fields["image"])
        if row.fields["error"] is not None:
            doubtful.add(key)
            yield BadRow(row.source, row.fields["error"])
        elif row.fields["box"] is not None:
            pictures.setdefault(key, []).append(row)
    if task == "classification":
        listed = option(entry, "categories", LISTED, "listed") == "listed"
        names = sorted({_category(row) for found in pictures.values() for row in found})
        problem = entry.options.get("question") or which_categories(names if listed else [])
    for key, found in pictures.items():
        if key in doubtful:
            continue
        if task == "classification":
            shown = list(dict.fromkeys(map(_category, found)))
            fields = {"problem": problem, "solution": shown, "distractors": [[n] for n in names if n not in shown]}
            yield _row(found[0], fields, task, ":picture")
        else:
            yield from _located(found, entry, task)


def _located(found: list[Row], entry: LoaderEntry, task: str) -> Iterator[RowOrBad]:
    """The questions of one picture; objects with one question belong together."""
    groups: dict[str, list[Row]] = {}
    for row in found:
        try:
            groups.setdefault(_question(row, entry, task), []).append(row)
        except ValueError as error:
            yield BadRow(row.source, str(error))
    for question, own in groups.items():
        boxes = [row.fields["box"] for row in own]
        if task == "dense_detection":
            yield _row(own[0], {"problem": question, "solution": boxes}, task, f":every {_category(own[0])}".rstrip())
        elif len(own) == 1:
            others = [row.fields["box"] for row in found if row is not own[0]][:MOST_DISTRACTORS]
            yield _row(own[0], {"problem": question, "solution": boxes[0], "distractors": others}, task, "")


def _question(row: Row, entry: LoaderEntry, task: str) -> str:
    text = entry.options.get("question") or row.fields["question"]
    if not text and "category" not in entry.columns:
        raise ValueError(
            "has no question; name its column (columns.question), one for all rows (options.question), or the column "
            "of the objects' names (columns.category)"
        )
    return str(text or _QUESTIONS[task]).replace(CATEGORY, _category(row))


def _row(first: Row, fields: dict[str, Any], task: str, what: str) -> Row:
    kept = {"domain": first.fields["domain"]} if first.fields["domain"] else {}
    return Row(f"{first.source}{what}", first.line, {**fields, **kept, "task": task, "image": first.fields["image"]})


def _category(row: Row) -> str:
    return str(row.fields["category"] or "").strip()


def _key(image: Any) -> str:
    return image.place if isinstance(image, StoredImage) else str(image)


def box_sides(column: str) -> tuple[str, ...]:
    """The four columns that ``columns.answer`` names with commas between; empty for the name of one column."""
    names = tuple(name.strip() for name in column.split(","))
    return names if len(names) == 4 and all(names) else ()


def named_columns(entry: LoaderEntry, header: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(our name, a column) of every column that the recipe names; the four of a box one by one."""
    for name, column in entry.columns.items():
        sides = box_sides(column) if name == "answer" and column not in header else ()
        yield from ((name, each) for each in sides or (column,))


def answer_of(row: Row, entry: LoaderEntry) -> Any:
    """What the row's answer is; of four columns an object where their names say a format of boxes, else their numbers
    in the order of the recipe. None where the cells are empty. Raises ValueError for a column it lacks."""
    column = entry.columns.get("answer", "answer")
    sides = box_sides(column) if column not in row.fields else ()
    if not sides:
        if column not in row.fields:
            raise ValueError(f"has no column {column} (answer); its columns are {', '.join(map(str, row.fields))}")
        return None if row.fields[column] in (None, "") else row.fields[column]
    for name in sides:
        if name not in row.fields:
            raise ValueError(f"has no column {name} (answer); its columns are {', '.join(map(str, row.fields))}")
    if all(row.fields[name] in (None, "") for name in sides):
        return None
    numbers = {name: _number(row.fields[name], name) for name in sides}
    return numbers if box_columns(sides) else list(numbers.values())


def _number(cell: Any, column: str) -> float:
    try:
        if isinstance(cell, bool):
            raise TypeError
        return float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"has no number in the column {column}, but {str(cell)[:40]!r}") from None
