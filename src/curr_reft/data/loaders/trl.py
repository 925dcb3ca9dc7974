"""Rows as TRL's trainers take them: ``prompt`` (a text, or a conversation whose content is text or parts) with
``images`` or ``image``; the truth under ``solution``, ``answer`` or ``ground_truth``, as reward functions read it.

From TRL's documentation of dataset formats and of GRPOTrainer. A system turn is not kept: how the model is addressed is
the recipe's to say.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from curr_reft.data.loaders import LoaderEntry
from curr_reft.data.loaders.json_rows import converted_rows, images_of, reference_fields
from curr_reft.data.opening import without_base64
from curr_reft.data.rows import Row, RowOrBad

TRUTHS = ("solution", "answer", "ground_truth")


def claims(fields: dict[str, Any]) -> bool:
    return "prompt" in fields and "problem" not in fields


def convert(row: Row, entry: LoaderEntry) -> Row:
    """Raises ValueError for a prompt that is not one question."""
    fields = row.fields
    if "prompt" not in fields:
        raise ValueError(f"has no prompt; keys found: {', '.join(sorted(fields)) or 'none'}")
    truth = next((fields[key] for key in TRUTHS if fields.get(key) is not None), None)
    return replace(row, fields=reference_fields(row, question_of(fields["prompt"]), truth, images_of(fields)))


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """Raises DataError for a file that cannot be read."""
    return converted_rows(entry, convert)


def question_of(prompt: Any) -> Any:
    """The text of the one user turn of a conversation; a text is its own prompt. Raises ValueError."""
    if not isinstance(prompt, list):
        return prompt
    turns = [turn for turn in prompt if isinstance(turn, dict) and turn.get("role") == "user"]
    if len(turns) != 1 or any(isinstance(turn, dict) and turn.get("role") == "assistant" for turn in prompt):
        raise ValueError(f"prompt must hold one user turn and no assistant turn, found {len(turns)} user turns")
    content = turns[0].get("content")
    return "\n".join(map(_part, content)) if isinstance(content, list) else content


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "image":
        return "<image>"
    if kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise ValueError(f"content holds a part that is neither text nor image: {without_base64(str(part))[:80]!r}")
