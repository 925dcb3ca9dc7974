"""Rows as LLaMA-Factory takes them: alpaca (``instruction``, ``input``, ``output``) and sharegpt (``conversations``),
with ``images``; what their columns and roles are called stands in the ``dataset_info.json`` beside the file.

From its ``data/README.md``. The entry's path is the data file; the description in ``dataset_info.json`` is found by
``file_name``, or named by the option ``dataset``. Without a description the documented defaults hold, and messages with
``role`` and ``content`` are read as its "OpenAI format". Preference rows are refused: they hold no truth.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from curr_reft.data.loaders import LoaderEntry, nearest
from curr_reft.data.loaders.conversation import Exchange, Tags, exchange
from curr_reft.data.loaders.json_rows import converted_rows, images_of, reference_fields, refuse_other_media
from curr_reft.data.rows import Row, RowOrBad
from curr_reft.errors import DataError

INFO = "dataset_info.json"
SHAREGPT = Tags(role="from", content="value", user="human", assistant="gpt", system="system")
_COLUMNS = ("prompt", "query", "response", "history", "messages", "images")
_OTHER_COLUMNS = ("system", "tools", "videos", "audios", "chosen", "rejected", "kto_tag")
_TAGS = ("role", "content", "user", "assistant", "system")


@dataclass(frozen=True, kw_only=True)
class Description:
    """What ``dataset_info.json`` says about a data set. None: told by the keys of each row."""

    formatting: str | None = None  # alpaca or sharegpt
    columns: Mapping[str, str] = field(default_factory=dict)
    tags: Tags | None = None

    def column(self, name: str, default: str) -> str:
        return self.columns.get(name, default)


def claims(fields: dict[str, Any]) -> bool:
    return "conversations" in fields or "instruction" in fields or _answered(fields)


def convert(row: Row, entry: LoaderEntry, told: Description | None = None) -> Row:
    """Raises ValueError for several questions and for missing columns."""
    fields, told = row.fields, told or Description()
    refuse_other_media(fields)
    formatting = told.formatting or ("alpaca" if "instruction" in fields else "sharegpt")
    asked = _alpaca(fields, told) if formatting == "alpaca" else _sharegpt(fields, told)
    column = told.columns.get("images")
    images = fields.get(column) if column else images_of(fields)
    truth = fields["solution"] if fields.get("solution") is not None else asked.answer
    return replace(row, fields=reference_fields(row, asked.question, truth, images))


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that cannot be read and for a description that does not fit."""
    return converted_rows(entry, partial(convert, told=described(entry)))


def described(entry: LoaderEntry) -> Description:
    """The description of the entry's file, or an empty one. Raises DataError."""
    path, wanted = entry.path.parent / INFO, entry.options.get("dataset")
    if not path.exists():
        if wanted:
            raise DataError(entry.name, f"option dataset {wanted}: there is no {INFO} beside the file")
        return Description()
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(INFO, f"cannot be read: {error}") from error
    if not isinstance(known, dict):
        raise DataError(INFO, "must be an object of data sets by name")
    if wanted:
        if wanted not in known:
            raise DataError(INFO, f"holds no data set {wanted}; {nearest(wanted, known)}")
        return _description(wanted, known[wanted])
    fitting = [name for name, each in known.items() if _file_of(path, each) == entry.path.resolve()]
    if len(fitting) > 1:
        raise DataError(INFO, f"{', '.join(fitting)} all describe {entry.name}; choose one with the option dataset")
    return _description(fitting[0], known[fitting[0]]) if fitting else Description()


def _file_of(info: Path, description: Any) -> Path | None:
    name = description.get("file_name") if isinstance(description, dict) else None
    return (info.parent / name).resolve() if isinstance(name, str) else None


def _description(name: str, given: Any) -> Description:
    """Raises DataError for keys and values that LLaMA-Factory does not have."""
    formatting = given.get("formatting", "alpaca")
    columns, tags = given.get("columns") or {}, given.get("tags") or {}
    if formatting not in ("alpaca", "sharegpt"):
        raise DataError(INFO, f"{name}.formatting: {formatting!r}; {nearest(str(formatting), ('alpaca', 'sharegpt'))}")
    if given.get("ranking"):
        raise DataError(INFO, f"{name}: ranking data holds preferences, no truth to grade an answer by")
    known_tags = {f"{each}_tag": each for each in _TAGS}
    for key in columns:
        if key not in (*_COLUMNS, *_OTHER_COLUMNS):
            raise DataError(INFO, f"{name}.columns: {key!r} is not known; {nearest(key, _COLUMNS)}")
    for key in tags:
        if key not in (*known_tags, "observation_tag", "function_tag"):
            raise DataError(INFO, f"{name}.tags: {key!r} is not known; {nearest(key, known_tags)}")
    own = {known_tags[key]: value for key, value in tags.items() if key in known_tags}
    return Description(formatting=formatting, columns=columns, tags=replace(SHAREGPT, **own))


def _alpaca(fields: dict[str, Any], told: Description) -> Exchange:
    prompt, query = told.column("prompt", "instruction"), told.column("query", "input")
    if not isinstance(fields.get(prompt), str):
        raise ValueError(f"has no {prompt}; keys found: {', '.join(sorted(fields)) or 'none'}")
    if fields.get(told.column("history", "history")):
        raise ValueError("has a history of earlier questions; a row must be one question")
    more = fields.get(query)
    question = f"{fields[prompt]}\n{more}" if more else fields[prompt]
    return Exchange(question, fields.get(told.column("response", "output")))


def _sharegpt(fields: dict[str, Any], told: Description) -> Exchange:
    column = told.columns.get("messages") or ("messages" if "messages" in fields else "conversations")
    if column not in fields:
        raise ValueError(f"has no {column}; keys found: {', '.join(sorted(fields)) or 'none'}")
    messages, tags = fields[column], told.tags
    if tags is None:
        first = messages[0] if isinstance(messages, list) and messages else None
        tags = Tags() if isinstance(first, dict) and "role" in first else SHAREGPT
    return exchange(messages, tags)


def _answered(fields: dict[str, Any]) -> bool:
    """Messages that end with an answer and hold nothing that only ms-swift has: they may be of either."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or "solution" in fields or "objects" in fields:
        return False
    return bool(messages) and isinstance(messages[-1], dict) and messages[-1].get("role") == "assistant"
