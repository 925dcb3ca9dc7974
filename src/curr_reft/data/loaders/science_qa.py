"""ScienceQA (Lu et al. 2022, arXiv 2209.09513): questions of school science with lettered choices, half of them without
a picture.

``data/scienceqa`` holds ``problems.json`` (number -> ``question``, ``choices``, ``answer`` as a place from 0, ``hint``,
``image`` or null, ``lecture``, ``solution``, ``split``, ``subject``, ...), ``pid_splits.json`` (split -> numbers) and
``images/SPLIT/NUMBER/image.png``. The small splits (``minival``, ``minitest``) have their pictures under the large one.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_elements import elements
from curr_reft.data.loaders.published import (
    get,
    lettered,
    mapping,
    option,
    read_object,
    require_folder,
    row,
    task_of,
    text,
)
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.errors import DataError

IMAGES = ("all", "only", "none")
CONTEXTS = ("hint", "lecture", "none")


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a question, in the order of ``problems.json``. Options: ``split``, ``images``, ``context``.

    Raises DataError.
    """
    task_of(entry, "math", default="math")
    require_folder(entry, "problems.json", "pid_splits.json")
    images, context = option(entry, "images", IMAGES, "all"), option(entry, "context", CONTEXTS, "hint")
    try:
        splits = read_object(entry.path / "pid_splits.json", "pid_splits.json")
        wanted = set(map(str, get(splits, option(entry, "split", list(splits)), list)))
    except ValueError as error:
        raise DataError(entry.name, str(error)) from error
    for element in elements(entry.path / "problems.json", f"{entry.name}/problems.json"):
        if element.key not in wanted:
            continue
        wanted.remove(element.key)
        has_image = isinstance(element.value, dict) and element.value.get("image") is not None
        if images == "all" or has_image == (images == "only"):
            source = f"{entry.name}/problems.json:{element.key}"
            yield row(source, element.line, partial(_question, element.value, element.key, context))
    for number in sorted(wanted):
        yield BadRow(f"{entry.name}/pid_splits.json:{number}", "is no problem of problems.json")


def _question(value: Any, number: str, context: str) -> dict[str, Any]:
    problem = mapping(value)
    question, right = lettered(text(problem, "question"), get(problem, "choices", list), get(problem, "answer", int))
    told = [_told(problem, key) for key in {"hint": ("hint",), "lecture": ("lecture", "hint")}.get(context, ())]
    fields = {"problem": "\n".join([*filter(None, told), question]), "solution": right, "task": "math"}
    if problem.get("image") is None:
        return fields
    return {**fields, "image": f"images/{text(problem, 'split')}/{number}/{text(problem, 'image')}"}


def _told(problem: Mapping[str, Any], key: str) -> str:
    return get(problem, key, str).strip()
