"""Visual7W, telling questions (Zhu et al. 2016, arXiv 1511.03416): ``dataset_v7w_telling.json``.

Its ``images`` hold ``filename`` (``v7w_2323054.jpg``), ``split`` and ``qa_pairs`` of ``qa_id``, ``question``,
``answer`` and three wrong ``multiple_choices``. Where the answer stands among the choices is not published; it is drawn
from the seed and the question's number, so that it is the same at every reading.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_elements import Element, elements
from curr_reft.data.loaders.published import get, lettered, mapping, option, row, task_of, text
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.seeding import stream

SPLITS = ("train", "val", "test")


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a question. Option: ``split``. Raises DataError."""
    task_of(entry, "math", default="math")
    split = option(entry, "split", SPLITS)
    for element in elements(entry.path, entry.name):
        if element.key == "images" and element.index is not None:
            yield from _pairs(element, f"{entry.name}:{element.place}", split, entry.seed)


def _pairs(element: Element, source: str, split: str, seed: int) -> Iterator[RowOrBad]:
    try:
        image = mapping(element.value)
        if text(image, "split") != split:
            return
        file, pairs = text(image, "filename"), get(image, "qa_pairs", list)
    except ValueError as error:
        yield BadRow(source, str(error))
        return
    for place, pair in enumerate(pairs):
        yield row(f"{source}.qa_pairs[{place}]", element.line, partial(_question, pair, file, seed))


def _question(value: Any, file: str, seed: int) -> dict[str, Any]:
    pair = mapping(value)
    answer, wrong = text(pair, "answer"), get(pair, "multiple_choices", list)
    if answer in wrong:
        raise ValueError(f"the answer {answer!r} is one of the wrong choices too")
    right = stream(seed, "visual7w", get(pair, "qa_id", int)).randrange(len(wrong) + 1)
    question, letter = lettered(text(pair, "question"), [*wrong[:right], answer, *wrong[right:]], right)
    return {"problem": question, "solution": letter, "task": "math", "image": file}
