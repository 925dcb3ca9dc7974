"""Geometry3K (Lu et al. 2021, Inter-GPS, arXiv 2105.04165): a folder for each problem.

``geometry3k/train/0/`` holds ``data.json`` (``annotat_text`` with its mathematics in LaTeX, ``choices``, ``answer`` as
a letter, ...), ``img_diagram.png`` and ``logic_form.json`` (``diagram_logic_form``: what the diagram shows, as literals
such as ``Equals(LengthOf(Line(A, C)), 21)``).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.published import get, lettered, option, read_object, require_folder, row, task_of, text
from curr_reft.data.rows import RowOrBad
from curr_reft.errors import DataError

ANSWERS = ("letter", "value")
LOGIC_FORMS = ("omit", "add")


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a problem, by number. Options: ``answer``, ``logic_forms``. Raises DataError."""
    task_of(entry, "math", default="math")
    answer = option(entry, "answer", ANSWERS, "letter")
    add = option(entry, "logic_forms", LOGIC_FORMS, "omit") == "add"
    require_folder(entry)
    folders = [path.parent for path in entry.path.glob("*/data.json")]
    if not folders:
        raise DataError(entry.name, f"{entry.path} holds no folders with a data.json; name one split of the data set")
    for place, folder in enumerate(sorted(folders, key=_number), start=1):
        source = f"{entry.name}/{folder.name}/data.json"
        yield row(source, place, partial(_problem, folder, answer, add))


def _number(folder: Path) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdigit() else -1, folder.name)


def _problem(folder: Path, answer: str, add: bool) -> dict[str, Any]:
    data = read_object(folder / "data.json", "data.json")
    question = text(data, "annotat_text" if data.get("annotat_text") else "problem_text")
    if add:
        forms = get(read_object(folder / "logic_form.json", "logic_form.json"), "diagram_logic_form", list)
        question += "\nThe diagram shows: " + "; ".join(map(str, forms)) + "."
    choices, letter = get(data, "choices", list), text(data, "answer")
    right = ascii_uppercase.find(letter) if len(letter) == 1 else -1
    with_letters, _ = lettered(question, choices, right)
    fields: dict[str, Any] = {"task": "math", "image": f"{folder.name}/img_diagram.png"}
    if answer == "letter":
        return {**fields, "problem": with_letters, "solution": letter}
    wrong = [str(choice) for place, choice in enumerate(choices) if place != right]
    return {**fields, "problem": question, "solution": str(choices[right]), "distractors": wrong}
