"""CLEVR (Johnson et al. 2017, arXiv 1612.06890) and Super-CLEVR (Li et al. 2023, arXiv 2212.00259): counting.

Three layouts: ``CLEVR_val_questions.json`` and ``superCLEVR_questions_30k.json`` (an object with ``questions``),
``CLEVR_val_scenes.json`` and ``superCLEVR_scenes.json`` (an object with ``scenes``, of which questions are made), and
the 200 counting questions that R1-V took of Super-CLEVR (JSON lines of ``image_path``, ``question``, ``ground_truth``),
the out-of-domain test of Curr-ReFT. CLEVR writes answers as text, Super-CLEVR as JSON numbers and true or false.
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_elements import elements
from curr_reft.data.loaders.json_rows import converted_rows
from curr_reft.data.loaders.published import get, mapping, option, refuse_options, row, task_of, text
from curr_reft.data.rows import BadRow, Row, RowOrBad
from curr_reft.errors import DataError

ANSWERS = ("counts", "yes_no", "all")
ASKED = ("total", "color", "shape", "size", "material")


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a question. Options: ``answers`` (of questions), ``ask`` (of scenes), ``images``. Raises DataError."""
    task_of(entry, "math", default="math")
    wanted = option(entry, "answers", ANSWERS, "counts")
    ask = option(entry, "ask", ASKED, "total")
    first, last = _range(entry)
    if entry.path.suffix.lower() == ".jsonl":
        refuse_options(entry, "all lines of this file are asked")
        yield from converted_rows(entry, _line)
        return
    met = False
    for element in elements(entry.path, entry.name):
        if element.index is None or element.key not in {"questions", "scenes"}:
            continue
        met = True
        source, value = f"{entry.name}:{element.place}", element.value
        number = value.get("image_index") if isinstance(value, dict) else None
        if isinstance(number, int) and not first <= number <= last:
            continue
        if element.key == "scenes":
            yield from _counted(value, source, element.line, ask)
            continue
        made = row(source, element.line, partial(_question, value))
        if not isinstance(made, Row) or _is_wanted(made.fields["solution"], wanted):
            yield made
    if not met:
        raise DataError(entry.name, "holds neither a list questions nor a list scenes")


def _question(value: Any) -> dict[str, Any]:
    fields = mapping(value)
    if "answer" not in fields:
        raise ValueError("has no answer; CLEVR's test split is published without answers")
    return {
        "problem": text(fields, "question"),
        "solution": _answer(fields["answer"]),
        "task": "math",
        "image": text(fields, "image_filename"),
    }


def _answer(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise ValueError(f"answer must be text, a whole number, true or false, not {value!r}")


def _is_wanted(answer: str, wanted: str) -> bool:
    if wanted == "counts":
        return answer.isdigit()
    return wanted == "all" or answer in {"yes", "no"}


def _counted(value: Any, source: str, line: int, ask: str) -> Iterator[RowOrBad]:
    """How many objects a scene has, or how many of each value of a property that occurs in it."""
    try:
        scene = mapping(value)
        image = text(scene, "image_filename")
        things = [mapping(each) for each in get(scene, "objects", list)]
        found = [""] * len(things) if ask == "total" else [text(thing, ask) for thing in things]
    except ValueError as error:
        yield BadRow(source, str(error))
        return
    for each, number in (Counter(found) or {"": 0}).items():
        what = f"objects of {ask} {each}" if each else "objects"
        fields = {"problem": f"How many {what} are in the image?", "solution": str(number), "task": "math"}
        yield Row(f"{source}.{each}" if each else source, line, {**fields, "image": image})


def _line(read: Row, entry: LoaderEntry) -> Row:
    made = {
        "problem": text(read.fields, "question"),
        "solution": _answer(read.fields.get("ground_truth")),
        "task": "math",
        "image": text(read.fields, "image_path"),
    }
    return Row(read.source, read.line, made)


def _range(entry: LoaderEntry) -> tuple[int, int]:
    """``images: 25000-29999``: the first and last ``image_index``; Super-CLEVR's splits are such ranges."""
    given = entry.options.get("images", "0-999999999")
    match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", given)
    if match is None or int(match[1]) > int(match[2]):
        raise DataError(entry.name, f"options.images is {given!r}; write the first and the last, as 25000-29999")
    return int(match[1]), int(match[2])
