"""What a row in the style of the reference data set means. Every loader gives its rows in this style.

Keys: ``problem``, ``solution`` (the truth, inside ``<answer>`` tags or as it is), ``task``, ``image`` or ``images``,
and of our own ``distractors``, ``domain`` and ``image_size``. The reference data has known typos (its data card writes
``answer>`` and ``<thinking>``): they are repaired here, and every repair is named so that it can be counted.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curr_reft.data.escapes import eaten_escape
from curr_reft.data.images import StoredImage
from curr_reft.data.opening import is_base64, without_base64

TASK_ALIASES = {"classify": "classification", "counting": "math"}

JUDGED = "judged"
"""The task of queries that a judge alone scores: their rows need no truth (``tasks/judged.py``)."""

LOST_BRACKET = 'the first "<" of the answer tag was lost'
THINKING = "<thinking> stands for <think>"
TURN_TOKEN = "the truth stood between tokens of a chat template"

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_LOST_BRACKET = re.compile(r"(?<![</\w])(answer>.*?</answer>)", re.DOTALL | re.IGNORECASE)
_ANY_TAG = re.compile(r"</?\s*(?:answer|think|thinking)\b|\banswer>", re.IGNORECASE)
_THINKING = re.compile(r"</?thinking\b", re.IGNORECASE)
# Tokens of chat templates, as the families of models write them: around the answer of a turn, and anywhere.
_BEGINS_TURN = re.compile(
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|im_start\|>assistant|<start_of_turn>model|<\|assistant\|>"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|\[/INST\])\s*"
)
_ENDS_TURN = re.compile(
    r"\s*(?:<\|(?:im_end|endoftext|end|eot_id|eom_id|end_of_text|eot|return|end_of_turn|eos)\|>"
    r"|</s>|<eos>|<end_of_turn>|<end_of_utterance>|<｜end▁of▁sentence｜>|\[EOS\])\s*"
)
_ANY_TOKEN = re.compile(
    rf"{_BEGINS_TURN.pattern}|{_ENDS_TURN.pattern}|<\|im_start\|>|<start_of_turn>|<\|start_header_id\|>"
)
_VISION_TOKENS = re.compile(r"<\|image_pad\|>|<\|vision_(?:start|end)\|>")


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What a row boils down to. Nothing is checked against a task or an image yet."""

    question: str
    answer: Any  # the truth as the row gives it, tags removed: text, a number or a list
    images: tuple[str | StoredImage, ...]  # paths as the row gives them, or pictures inside a data file
    task: str | None
    domain: str
    distractors: tuple[Any, ...]  # wrong answers the row knows, as the row gives them
    image_size: tuple[int, int] | None  # width and height the row gives for its first image; its boxes are in them
    repairs: tuple[str, ...]  # typos of the reference data that were repaired, each once


def read_answer(solution: Any) -> tuple[Any, tuple[str, ...]]:
    """Return the truth inside ``<answer>`` tags, and what had to be repaired. Raises ValueError.

    Reasoning before the answer (``<thinking>``, ``<think>``) is dropped, and so are the tokens of a chat template
    around it (``<|im_end|>``, ``</s>``). A text without any tag is the truth itself, and so are lists and objects;
    numbers become text.
    """
    if isinstance(solution, bool) or solution is None:
        raise ValueError(f"the truth must be text, a number or a list, not {json.dumps(solution)}")
    if isinstance(solution, int | float):
        if not math.isfinite(solution):  # what JSON does not know and Python writes: a value that was missing
            raise ValueError(f"the truth must be a finite number, not {solution}")
        return str(solution), ()
    if not isinstance(solution, str):
        require_text(solution, "the truth")
        if isinstance(solution, list) and any(isinstance(each, str) for each in solution):
            texts = [without_turn_tokens(each) if isinstance(each, str) else each for each in solution]
            return texts, (TURN_TOKEN,) if texts != solution else ()
        return solution, ()
    repairs = [THINKING] if _THINKING.search(solution) else []
    found = _TAG.findall(solution)
    if not found:
        mended, changes = _LOST_BRACKET.subn(r"<\1", solution)
        if changes:
            found = _TAG.findall(mended)
            repairs.append(LOST_BRACKET)
    if not found and not _ANY_TAG.search(solution):
        found = [solution]
    if len(found) != 1:
        raise ValueError(f"expected exactly one <answer>...</answer>, found {len(found)} in {_short(solution)}")
    require_text(found[0], "the truth")
    whole = found[0].strip()
    answer = without_turn_tokens(whole)
    if not answer:
        raise ValueError("the truth is empty")
    return answer, (*repairs, TURN_TOKEN) if answer != whole else tuple(repairs)


def without_turn_tokens(truth: str) -> str:
    """Return the truth without the tokens of a chat template around it. Raises ValueError for such tokens inside of it,
    where it is not known what belongs to the truth."""
    if _ANY_TOKEN.search(truth) is None:
        return truth
    start, end = 0, len(truth)
    while (found := _BEGINS_TURN.match(truth, start)) is not None:
        start = found.end()
    for found in reversed(list(_ENDS_TURN.finditer(truth, start))):
        if found.end() != end:
            break
        end = found.start()
    inside = _ANY_TOKEN.search(truth, start, end)
    if inside is not None:
        raise ValueError(
            f"the truth {_short(truth)} holds {inside[0].strip()}, a token of a chat template, which no answer holds; "
            "keep the text of the answer alone"
        )
    return truth[start:end].strip()


def read_fields(row: dict[str, Any], task_of_entry: str | None = None) -> Fields:
    """``task_of_entry`` is that of rows which name none. Raises ValueError with what is missing or of a wrong kind."""
    if "problem" not in row:
        raise ValueError(f"has no question (problem); keys found: {', '.join(sorted(row)) or 'none'}")
    solution = "none" if (row.get("task") or task_of_entry) == JUDGED else row.get("solution")
    if solution is None:
        raise ValueError("has no truth (solution)")
    images = _images(row["image"] if row.get("image") is not None else row.get("images"))
    question = question_text(row["problem"], len(images))
    answer, repairs = read_answer(solution)
    task, domain, distractors = row.get("task"), row.get("domain", ""), row.get("distractors", [])
    if task is not None and not isinstance(task, str):
        raise ValueError(f"task must be text, not {_plain(task)}")
    if not isinstance(domain, str):
        raise ValueError(f"domain must be text, not {_plain(domain)}")
    if not isinstance(distractors, list):
        raise ValueError(f"distractors must be a list, not {_plain(distractors)}")
    if task in TASK_ALIASES:
        repairs = (*repairs, f"the task {task} stands for {TASK_ALIASES[task]}")
    return Fields(
        question=question,
        answer=answer,
        images=images,
        task=TASK_ALIASES.get(task, task) if task else None,
        domain=domain,
        distractors=tuple(read_answer(value)[0] for value in distractors),
        image_size=_size(row.get("image_size")),
        repairs=repairs,
    )


def question_text(problem: Any, images: int) -> str:
    """The question without placeholders of its images, which are shown before it in their order.

    ``<image>`` inside a sentence about several images becomes "image 1", "image 2", ...; at the beginning or the end it
    says nothing and goes. Raises ValueError for no text, and for another number of placeholders than of images.
    """
    if not isinstance(problem, str):
        raise ValueError(f"the question must be a text, not {_plain(problem)}")
    require_text(problem, "the question")
    parts = _VISION_TOKENS.sub("", problem).split("<image>")
    places = len(parts) - 1
    if places and places != images:
        raise ValueError(f"the question holds {places} <image> placeholders, and the row has {images} images")
    text = parts[0]
    for number, part in enumerate(parts[1:], start=1):
        if images > 1 and text.strip() and "".join(parts[number:]).strip():
            text += f"{' ' if text[-1].isalnum() else ''}image {number}{' ' if part[:1].isalnum() else ''}"
        text += part
    text = text.strip()
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise ValueError("the question must be a text that is not empty")
    return text


def require_text(value: Any, what: str) -> None:
    """Raises ValueError for half a character (``\\ud800`` alone), which no file and no tokenizer takes, and for LaTeX
    whose backslash JSON has read as an escape."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} holds half a character, {text[error.start]!a}; write the whole one") from None
    for part in _texts(value):
        if reason := eaten_escape(part):
            raise ValueError(f"{what} {reason}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _images(value: Any) -> tuple[str | StoredImage, ...]:
    values = [] if value is None or value == "" else value if isinstance(value, list) else [value]
    images: list[str | StoredImage] = []
    for each in values:
        image = each.get("path") if isinstance(each, dict) else each
        if image is None and isinstance(each, dict) and each.get("bytes") is not None:
            raise ValueError("the picture stands inside JSON; pictures inside a data file are read from parquet")
        if not isinstance(image, str | StoredImage):
            raise ValueError(f"image must be a path or a list of paths, not {_plain(value)}")
        if isinstance(image, str) and is_base64(image):
            raise ValueError(
                f"image is a base64 picture, {len(image)} characters; pictures are read from files and from parquet: "
                "write it to a file and give its path"
            )
        # As Windows writes paths. A name with a backslash in it is found nowhere else.
        images.append(image.replace("\\", "/") if isinstance(image, str) else image)
    return tuple(images)


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(type(side) is int and side > 0 for side in value)):
        raise ValueError(f"image_size must be two whole numbers above 0, width and height, not {_plain(value)}")
    return value[0], value[1]


def _plain(value: Any) -> str:
    return _short(json.dumps(value, default=repr))


def _short(text: str, limit: int = 80) -> str:
    text = without_base64(text)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")
