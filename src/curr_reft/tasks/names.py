"""Category names in an answer, as a list: normalised, separated by commas, semicolons, new lines or bullets, or JSON.

The reference code splits on white space, which makes two classes of "traffic light"; here names stay whole.
"""

import re
import unicodedata

LONGEST_ANSWER = 4000  # characters

_FENCE = re.compile(r"```[a-zA-Z]*\s*(.*?)\s*```", re.DOTALL)
_SEPARATORS = re.compile(r"[,;\n/、，；•|]+")
_NUMBERING = re.compile(r"^\s*(?:[-*+]\s+|\d{1,3}[.)]\s+)")
_NOT_WORD = re.compile(r"[^\w\s]+")
_JOINS = re.compile(r"[-_]+")


def normalise_name(name: str) -> str:
    """``" 'Traffic-Light.' "`` becomes ``traffic light``: case, punctuation, hyphens and repeated white space."""
    text = _NUMBERING.sub("", unicodedata.normalize("NFKC", name)).casefold()
    text = _NOT_WORD.sub("", _JOINS.sub(" ", text))
    return " ".join(text.split())


def read_names(answer: str) -> tuple[str, ...] | None:
    """The normalised names of a list in text, each once, in order; None when there is none.

    Lists are separated by commas, semicolons, new lines or bullets, or written as a JSON list.
    """
    text = answer.strip()
    if not text or len(text) > LONGEST_ANSWER:
        return None
    fence = _FENCE.fullmatch(text)
    if fence:
        text = fence.group(1).strip()
    if len(text) >= 2 and (text[0], text[-1]) in {("[", "]"), ("{", "}"), ("(", ")")}:
        text = text[1:-1]
    names = (normalise_name(part) for part in _SEPARATORS.split(text))
    # "person, dog, and cat": the last comma already separates, so the word only joins.
    names = (name.removeprefix("and ") for name in names)
    return tuple(dict.fromkeys(name for name in names if name)) or None
