"""The table of row formats: which file of this folder reads which layout.

A loader reads one entry of a recipe (a file or a folder) as a stream and gives every row in the style of the reference
data set, so that one place (``styles.py``, ``stream.py``) checks tasks, truths, boxes and images for all of them. A new
format is one file with ``rows(entry)`` and one line in ``LOADERS``. This file imports no loader before it is asked to
read: a recipe is checked with the table alone.
"""

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curr_reft.data.rows import RowOrBad

COLUMNS = ("question", "answer", "image", "task", "domain", "distractors")
"""What a recipe may name the columns of, where the format leaves their names to the user."""


@dataclass(frozen=True, kw_only=True)
class LoaderEntry:
    """What a loader is told about the file or folder it reads."""

    path: Path
    name: str  # the file as messages name it
    task: str | None = None  # task of rows that name none
    columns: Mapping[str, str] = field(default_factory=dict)  # one of COLUMNS -> the name it has in the file
    options: Mapping[str, str] = field(default_factory=dict)  # of the format, checked against ``Loader.options``
    seed: int = 0  # for what a loader draws; a row must be the same at every pass


@dataclass(frozen=True, kw_only=True)
class Loader:
    """A format. The module holds ``rows(entry: LoaderEntry) -> Iterator[Row | BadRow]``, which gives the same rows in
    the same order at every call, keeps none of them, and raises DataError for what no row can be named for.

    The ``fields`` of a row are in the reference style: ``problem``, ``solution``, ``task``, ``image`` or ``images``
    (paths under the image root, or ``images.StoredImage`` objects made by the loader), ``distractors``, ``domain``.
    """

    module: str  # of this folder
    about: str  # one line, for docs and messages
    options: Mapping[str, str] = field(default_factory=dict)  # key -> what it says
    columns: bool = False  # whether the recipe may name columns

    def rows(self, entry: LoaderEntry) -> Iterator["RowOrBad"]:
        read = importlib.import_module(f"{__name__}.{self.module}").rows
        found: Iterator[RowOrBad] = read(entry)
        return found


LOADERS: dict[str, Loader] = {
    "auto": Loader(module="auto", about="told by the suffix of the file and the keys of its rows", columns=True),
    "reference": Loader(module="reference", about="rows with problem, solution, task, image: the reference data set"),
    "trl": Loader(module="trl", about="TRL: prompt (text or messages), images, solution or answer or ground_truth"),
}
"""``format`` of an entry -> how it is read."""


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """The way out for a misspelt name: the nearest valid one, else all of them."""
    names = sorted(valid)
    near = difflib.get_close_matches(wrong, names, 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"valid: {', '.join(names) or 'none'}"
