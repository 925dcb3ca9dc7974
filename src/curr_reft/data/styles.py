"""What the keys of a row mean: the style of the reference data set, and TRL's. A new style is one function and one
line in ``STYLES``.

Reference: ``problem``, ``solution`` (truth inside ``<answer>`` tags), ``task``, ``image``.
TRL: ``prompt`` (text or messages), ``images``, and the truth under ``solution``, ``answer`` or ``ground_truth``.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TASK_ALIASES = {"classify": "classification", "counting": "math"}

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_LOST_BRACKET = re.compile(r"(?<![</\w])(answer>.*?</answer>)", re.DOTALL | re.IGNORECASE)
_ANY_TAG = re.compile(r"</?\s*(?:answer|think|thinking)\b|\banswer>", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"<image>|<\|image_pad\|>|<\|vision_(?:start|end)\|>")


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What every style boils down to. Nothing is checked against a task or an image yet."""

    question: str
    answer: Any  # the truth as the row gives it, tags removed: text, a number or a list
    images: tuple[str, ...]  # paths as the row gives them
    task: str | None
    domain: str
    distractors: tuple[Any, ...]  # wrong answers the row knows, as the row gives them
    repaired: bool  # the first "<" of the answer tag was put back


def read_answer(solution: Any) -> tuple[Any, bool]:
    """The truth inside ``<answer>`` tags, and whether the tag had to be repaired. Raises ValueError.

    Reasoning before the answer (``<thinking>``, ``<think>``) is dropped. A text without any tag is the truth itself,
    and so are lists and objects; numbers become text.
    """
    if isinstance(solution, bool) or solution is None:
        raise ValueError(f"the truth must be text, a number or a list, not {json.dumps(solution)}")
    if isinstance(solution, int | float):
        return str(solution), False
    if not isinstance(solution, str):
        return solution, False
    repaired = False
    found = _TAG.findall(solution)
    if not found:
        mended, changes = _LOST_BRACKET.subn(r"<\1", solution)
        if changes:
            found, repaired = _TAG.findall(mended), True
    if not found and not _ANY_TAG.search(solution):
        found = [solution]
    if len(found) != 1:
        raise ValueError(f"expected exactly one <answer>...</answer>, found {len(found)} in {_short(solution)}")
    answer = found[0].strip()
    if not answer:
        raise ValueError("the truth is empty")
    return answer, repaired


def _reference(row: dict[str, Any]) -> tuple[Any, Any, Any]:
    return row["problem"], row.get("solution"), row.get("image", row.get("images"))


def _trl(row: dict[str, Any]) -> tuple[Any, Any, Any]:
    truth = next((row[key] for key in ("solution", "answer", "ground_truth") if row.get(key) is not None), None)
    return _last_user_text(row["prompt"]), truth, row.get("images", row.get("image"))


STYLES: dict[str, Callable[[dict[str, Any]], tuple[Any, Any, Any]]] = {"problem": _reference, "prompt": _trl}
"""The key that tells a style -> (question, solution, images) as the row gives them."""


def read_fields(row: dict[str, Any]) -> Fields:
    """Raises ValueError with what is missing or of a wrong kind."""
    key = next((key for key in STYLES if key in row), None)
    if key is None:
        raise ValueError(f"has none of the keys {', '.join(STYLES)}; keys found: {', '.join(sorted(row)) or 'none'}")
    question, solution, images = STYLES[key](row)
    if not isinstance(question, str) or not (question := _PLACEHOLDER.sub("", question).strip()):
        raise ValueError(f"{key} must be a text that is not empty")
    if solution is None:
        raise ValueError("has no truth (solution)")
    answer, repaired = read_answer(solution)
    task, domain, distractors = row.get("task"), row.get("domain", ""), row.get("distractors", [])
    if task is not None and not isinstance(task, str):
        raise ValueError(f"task must be text, not {json.dumps(task)}")
    if not isinstance(domain, str):
        raise ValueError(f"domain must be text, not {json.dumps(domain)}")
    if not isinstance(distractors, list):
        raise ValueError(f"distractors must be a list, not {json.dumps(distractors)}")
    return Fields(
        question=question,
        answer=answer,
        images=_image_paths(images),
        task=TASK_ALIASES.get(task, task) if task else None,
        domain=domain,
        distractors=tuple(read_answer(value)[0] for value in distractors),
        repaired=repaired,
    )


def _image_paths(value: Any) -> tuple[str, ...]:
    values = [] if value is None or value == "" else value if isinstance(value, list) else [value]
    paths: list[str] = []
    for each in values:
        path = each.get("path") if isinstance(each, dict) else each
        if not isinstance(path, str):
            raise ValueError(f"image must be a path or a list of paths, not {_short(json.dumps(value))}")
        paths.append(path)
    return tuple(paths)


def _last_user_text(prompt: Any) -> Any:
    """The text of the one user turn of a conversation; a text is its own prompt."""
    if not isinstance(prompt, list):
        return prompt
    turns = [turn for turn in prompt if isinstance(turn, dict) and turn.get("role") == "user"]
    if len(turns) != 1 or any(isinstance(turn, dict) and turn.get("role") == "assistant" for turn in prompt):
        raise ValueError(f"prompt must hold one user turn and no assistant turn, found {len(turns)} user turns")
    content = turns[0].get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content


def _short(text: str, limit: int = 80) -> str:
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
