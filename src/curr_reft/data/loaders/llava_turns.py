"""Rows of LLaVA's conversations: ``{"id", "image", "conversations": [{"from": "human", "value"}, {"from": "gpt",
"value"}]}``, as a JSON list, JSON lines, or Parquet with the same columns (paths of pictures, or pictures inside).

The human's turn holds the question, the other one the solution; how the answer stands in it is the business of each
data set (``geo170k.py``, ``mathv360k.py``, ``llava_cot.py``).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_elements import elements
from curr_reft.data.loaders.json_rows import converted
from curr_reft.data.loaders.parquet import stored_rows
from curr_reft.data.loaders.published import get, mapping, refuse_options, task_of, text
from curr_reft.data.rows import BadRow, Row, RowOrBad, rows_of
from curr_reft.errors import DataError


@dataclass(frozen=True)
class Turns:
    """One question and the solution beside it."""

    question: str  # without the placeholder of the image
    solution: str


Read: TypeAlias = Callable[[Turns], tuple[str, str]]
"""The question as it is asked and the answer. Raises ValueError where the solution states none."""


def conversation_rows(entry: LoaderEntry, read: Read) -> Iterator[RowOrBad]:
    """One row a conversation of one question. Raises DataError."""
    task = task_of(entry, "math", default="math")
    refuse_options(entry, "this format has none")

    def convert(row: Row, entry: LoaderEntry) -> Row:
        question, answer = read(_turns(row.fields))
        fields = {"problem": question, "solution": answer, "task": task}
        return Row(row.source, row.line, {**fields, "image": row.fields.get("image")})

    for raw in _raw(entry):
        yield converted(raw, entry, convert)


def _raw(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Rows as they are in the file."""
    suffix = entry.path.suffix.lower()
    if suffix == ".json":
        for element in elements(entry.path, entry.name):
            source = f"{entry.name}:{element.place}"
            if isinstance(element.value, dict):
                yield Row(source, element.line, element.value)
            else:
                yield BadRow(source, f"a row must be a JSON object, not {type(element.value).__name__}")
    elif suffix == ".jsonl":
        yield from rows_of(entry.path, entry.name)
    elif suffix == ".parquet" or entry.path.is_dir():
        yield from stored_rows(entry)
    else:
        raise DataError(entry.name, f"{entry.path.name} holds no conversations: .json, .jsonl and .parquet are read")


def _turns(fields: Mapping[str, Any]) -> Turns:
    turns = [mapping(turn) for turn in get(fields, "conversations", list)]
    speakers = [turn.get("from") for turn in turns]
    if speakers != ["human", "gpt"]:
        found = ", ".join(map(str, speakers)) or "none"
        raise ValueError(f"a row needs one turn of human and one of gpt; found {found}")
    question = text(turns[0], "value").replace("<image>", "").strip()
    if not question:
        raise ValueError("the human's turn holds no question")
    return Turns(question, text(turns[1], "value"))
