"""Option letters in an answer, as a set: ``A, C``, ``AC``, ``C and A``, ``(A) (C)`` and ``A. red circle`` are letters.

A sentence is not: the article of "A dog is option C" is no option A. What is not plainly a list of letters is not read
at all, because guessing letters out of prose is what the reference code pays wrongly.
"""

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase

LONGEST_ANSWER = 2000  # characters

_LEAD = re.compile(
    r"^(?:(?:so|thus|therefore|hence)\b[,:]?\s*)?(?:the\s+)?(?:(?:final|correct|right)\s+)?"
    r"(?:answers?|options?|choices?|letters?)\b(?:\s+(?:is|are))?\s*[:=]?\s*",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_JOINS = re.compile(r"\band\b|&|\bAND\b|\bAnd\b")
_MARKS = re.compile(r"[\s,;.:/()\[\]{}'\"`*+|、，]+")
# A label opens a line, or follows white space or a separator: "A.", "(A)", "A)", "A:", "[A]".
_LABEL = re.compile(r"(?:^|(?<=[\s,;]))(?:[(\[]([A-Za-z])[)\]][.:]?|([A-Za-z])[.):])(?=\s|$)")
_LONE_CAPITAL = re.compile(r"(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9'])")
_HEDGE = re.compile(r"\b(?:or|not|neither|nor|maybe|either)\b", re.IGNORECASE)


def letter_of(position: int) -> str:
    """``A`` for 0, ``B`` for 1, ..."""
    return ascii_uppercase[position]


def read_letters(answer: str, options: Sequence[str] = ()) -> frozenset[str] | None:
    """The set of option letters an answer names, upper case; None when it is not plainly one or more letters.

    ``options`` are the texts of A, B, ... as shown, where they are known: text that follows a letter must then not be
    the text of another option.
    """
    text = unicodedata.normalize("NFKC", answer).strip()
    if not text or len(text) > LONGEST_ANSWER:
        return None
    text = _COMMAND.sub(r"\1", text).replace("$", " ").replace("*", "").strip()
    text = _JOINS.sub(" , ", text)
    for _ in range(2):  # "The answer is: option C"
        shorter = _LEAD.sub("", text, count=1).strip()
        text = shorter or text
    return _bare_letters(text) or _labelled_letters(text, options)


def _bare_letters(text: str) -> frozenset[str] | None:
    """Nothing but letters and separators: ``A, C``, ``(A) (C)``, ``c``, ``AC``."""
    tokens = [token for token in _MARKS.split(text) if token]
    if not tokens:
        return None
    if all(len(token) == 1 and token.isascii() and token.isalpha() for token in tokens):
        return frozenset(token.upper() for token in tokens)
    run = tokens[0]
    # "AC" is a run of options, "ac" may be a word, and in "DAD" a letter stands twice, so it is a word too.
    if len(tokens) == 1 and run.isascii() and run.isalpha() and run.isupper() and len(set(run)) == len(run):
        return frozenset(run)
    return None


def _labelled_letters(text: str, options: Sequence[str]) -> frozenset[str] | None:
    """Letters with the text of their option: ``A. red circle``, ``(A) 12 cm, (C) 14 cm``."""
    labels = list(_LABEL.finditer(text))
    if not labels or labels[0].start() != 0:
        return None
    letters: set[str] = set()
    ends = [label.start() for label in labels[1:]] + [len(text)]
    for label, end in zip(labels, ends, strict=True):
        letter = (label.group(1) or label.group(2)).upper()
        if not _fits(letter, text[label.end() : end], options):
            return None
        letters.add(letter)
    return frozenset(letters)


def _fits(letter: str, shown: str, options: Sequence[str]) -> bool:
    """Whether the words after a letter are no second thought: not another option, its letter, or a hedge."""
    words = _plain(shown)
    position = ascii_uppercase.index(letter)
    own = _plain(options[position]) if position < len(options) else ""
    if not words or words == own:
        return True
    if any(words == _plain(other) for other in options):
        return False
    return not (_HEDGE.search(shown) or _LONE_CAPITAL.search(shown))


def _plain(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text).casefold().split())
