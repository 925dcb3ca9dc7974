"""Category names in an answer: a JSON list, or names separated by commas, semicolons, new lines, bullets or "and".

The reference code splits on white space, which makes two classes of "traffic light"; here names stay whole. Whether the
"and" of "salt and pepper shaker" separates is decided where the truth is known (``resolve``).
"""

import json
import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any

from curr_reft.tasks.wrappers import punctuated, unwrapped

LONGEST_ANSWER = 4000  # characters

_SEPARATORS = re.compile(r"[,;\n/•|]+")
_NUMBERING = re.compile(r"^\s*(?:[-*+–]\s+|\(?\d{1,3}[.)]\s+)")
_APOSTROPHES = re.compile(r"['’`]+")
_NOT_WORD = re.compile(r"[^\w\s]+|_+")
_LEAD = re.compile(
    r"(?:the\s+)?(?:final\s+)?(?:answer|categor(?:y|ies)|objects?|classes|class|labels?|names?)"
    r"(?:\s+(?:present|shown|visible))?(?:\s+in\s+(?:the|this)\s+image)?(?:\s+(?:is|are|include))?\s*:"
    r"|the\s+image\s+(?:contains|shows)\s*:",
    re.IGNORECASE,
)
_JSON_KEYS = frozenset({"label", "name", "category", "class", "object"})  # of an object that stands for one name
_JSON_LISTS = frozenset({"labels", "names", "categories", "classes", "objects", "answer"})  # of one that holds the list
_AND = " and "


def normalise_name(name: str) -> str:
    """``" 'Traffic-Light.' "`` becomes ``traffic light``: case, punctuation, hyphens and repeated white space.

    Letters are not folded into others: a full-width or Cyrillic look-alike is another name, and so is a ligature.
    """
    text = _NUMBERING.sub("", unicodedata.normalize("NFC", name)).lower().replace("&", _AND)
    text = _NOT_WORD.sub(" ", _APOSTROPHES.sub("", text))
    return unicodedata.normalize("NFC", " ".join(text.split()))


def read_names(answer: str) -> tuple[str, ...] | None:
    """The normalised names of a list in text, each once, in order; None when there is none."""
    if len(answer) > LONGEST_ANSWER:
        return None
    text = unwrapped(punctuated(answer))
    listed = _from_json(text)
    if listed is None:
        if len(text) >= 2 and (text[0], text[-1]) in {("[", "]"), ("{", "}"), ("(", ")")}:
            text = text[1:-1]
        lead = _LEAD.match(text)
        listed = [text[lead.end() :] if lead else text]
    names = (normalise_name(part) for text in listed for part in _SEPARATORS.split(text))
    # "person, dog, and cat": the last comma already separates, so the word only joins.
    names = (name.removeprefix("and ") for name in names)
    return tuple(dict.fromkeys(name for name in names if name)) or None


def resolve(names: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """The names, those that "and" joins taken apart, except where the whole is ``known`` (the names of the truth).

    "dog and cat" are two names, and so are "dog and salt and pepper shaker" when "salt and pepper shaker" is known.
    """
    longest = 1 + max((name.count(_AND) for name in known), default=0)
    found: list[str] = []
    for name in names:
        parts = name.split(_AND)
        start = 0
        while start < len(parts):
            ends = range(min(len(parts), start + longest), start + 1, -1)
            end = next((end for end in ends if _AND.join(parts[start:end]) in known), start + 1)
            found.append(_AND.join(parts[start:end]))
            start = end
    return tuple(dict.fromkeys(found))


def _from_json(text: str) -> list[str] | None:
    """The texts of a JSON list of names, alone or in an object; None when the text is no such JSON."""
    if not text.startswith(("[", "{")):
        return None
    try:
        value = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):  # single quotes or no JSON at all: read as text
        return None
    if text.startswith("{"):
        if not (isinstance(value, list) and len(value) == 1 and value[0][0].lower() in _JSON_LISTS):
            return None
        value = [value[0][1]] if isinstance(value[0][1], str) else value[0][1]
    if not isinstance(value, list):
        return None
    names = [name for entry in value for name in _named(entry)]
    return names if names and len(names) == len(value) else None


def _named(entry: Any) -> list[str]:
    """The name of one entry of a JSON list: a text, or an object with one label."""
    if isinstance(entry, str):
        return [entry]
    if not isinstance(entry, list):
        return []
    pairs = [pair for pair in entry if isinstance(pair, tuple)]
    return [value for key, value in pairs if key.lower() in _JSON_KEYS and isinstance(value, str)]
