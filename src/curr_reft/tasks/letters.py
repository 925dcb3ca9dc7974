"""Option letters in an answer, as a set: ``A, C``, ``AC``, ``C and A``, ``(A) (C)`` and ``A. red circle`` are letters.

A sentence is not: the article of "A dog is option C" is no option A. What is not plainly a list of letters is not read
at all, because guessing letters out of prose is what the reference code pays wrongly. A letter whose text is another
option's contradicts itself and is not read either. Look-alikes (Cyrillic, roman numerals, circled letters) are no
letters.
"""

import re
from collections.abc import Sequence
from string import ascii_uppercase

from curr_reft.tasks.wrappers import punctuated, unwrapped

LONGEST_ANSWER = 2000  # characters

_LEAD = re.compile(
    r"^(?:(?:so|thus|therefore|hence)\b[,:]?\s*)?(?:the\s+|my\s+)?(?:(?:final|correct|right)\s+)?"
    r"(?:answers?|options?|choices?|letters?|both)\b(?:\s+(?:is|are))?\s*[:=]?\s*",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r"(?<=[A-Za-z).])\s+(?:is|are)\s+(?:the\s+)?(?:correct|right)(?:\s+(?:answers?|options?|choices?))?\s*\.?$"
)
_COMMAND = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_JOINS = re.compile(r"\band\b|&|\bAND\b|\bAnd\b")
_MARKS = re.compile(r"[\s,;.:/()\[\]{}'\"`*+|、，]+")
# A label opens a line, or follows white space or a separator: "A.", "(A)", "A)", "A:", "[A]", "A (its text)".
_LABEL = re.compile(
    r"(?:^|(?<=[\s,;]))(?:[(\[]([A-Za-z])[)\]][.:]?|([A-Za-z])[.):](?=\s|$)|([A-Z])(?:[.):](?=\d)|(?=\s\()))"
)
_DASHED = re.compile(r"([A-Z])(?:\s+[-–—]\s+|\s*,\s*)(\S.*)", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-•]|\d\.)\s+(?=[(\[]?[A-Z]\b)", re.MULTILINE)
_LONE_CAPITAL = re.compile(r"(?<![A-Za-z0-9])[A-Z](?![A-Za-z0-9])")
_GLUED_LABEL = re.compile(r"(?<![A-Z])[A-Z][.):]")
_HEDGE = re.compile(r"\b(?:or|not|neither|nor|maybe|unlikely|either|wrong|incorrect|false)\b", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the) ")
_EDGES = ".,;:!?()[]{}'\"`$\\"


def letter_of(position: int) -> str:
    """``A`` for 0, ``B`` for 1, ..."""
    return ascii_uppercase[position]


def read_letters(answer: str, options: Sequence[str] = ()) -> frozenset[str] | None:
    """The set of option letters an answer names, upper case; None when it is not plainly one or more letters.

    ``options`` are the texts of A, B, ... as shown, where they are known: text that follows a letter must then not be
    the text of another option.
    """
    if len(answer) > LONGEST_ANSWER:
        return None
    text = (
        _COMMAND.sub(r"\1", _BULLET.sub("", unwrapped(punctuated(answer)))).replace("$", " ").replace("*", "").strip()
    )
    if not text:
        return None
    own = _own_after_dash(text, options)
    if own is not None:
        return own
    text = _TAIL.sub("", _JOINS.sub(" , ", text))
    for _ in range(2):  # "The answer is: option C"
        shorter = _LEAD.sub("", text, count=1).strip()
        text = shorter or text
    return _bare_letters(text) or _labelled_letters(text, options)


def _own_after_dash(text: str, options: Sequence[str]) -> frozenset[str] | None:
    """``A - red circle`` and ``A, red circle``, where exactly the letter's own text follows and nothing else."""
    found = _DASHED.fullmatch(text)
    own = _own_text(found[1], options) if found else ""
    return frozenset({found[1]}) if found and own and _plain(found[2]) == own else None


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
    first = _letter(labels[0])
    if _plain(text[labels[0].end() :]) == _own_text(first, options) != "":
        return frozenset({first})  # "D. Vitamin C." is one option, whose text holds what looks like a second label
    letters: set[str] = set()
    ends = [label.start() for label in labels[1:]] + [len(text)]
    for label, end in zip(labels, ends, strict=True):
        if not _fits(_letter(label), text[label.end() : end], options):
            return None
        letters.add(_letter(label))
    return frozenset(letters)


def _letter(label: re.Match[str]) -> str:
    return next(letter for letter in label.groups() if letter).upper()


def _own_text(letter: str, options: Sequence[str]) -> str:
    position = ascii_uppercase.index(letter)
    return _plain(options[position]) if position < len(options) else ""


def _fits(letter: str, shown: str, options: Sequence[str]) -> bool:
    """Whether the words after a letter are its own text, or at least no second thought: no hedge, no other letter.

    With the options known, the words must hold the option's own text (or be a part of it) and no other option's.
    """
    words, own = _plain(shown), _own_text(letter, options)
    if not words or _ARTICLE.sub("", words) == _ARTICLE.sub("", own):
        return True
    others = [_plain(other) for other in options]
    if words not in others and words.replace(" ", "") == own.replace(" ", ""):
        return True  # "4.5cm" is "4.5 cm"
    capitals = set(_LONE_CAPITAL.findall(shown)) - {capital.upper() for capital in own.split()}
    if _HEDGE.search(shown) or capitals or words in others:
        return False
    if not own:
        return not _GLUED_LABEL.search(shown.strip().rstrip("."))
    if not (_within(own, words) or _within(words, own)):
        return False
    if any(character.isdigit() for character in f" {words} ".replace(f" {own} ", " ", 1)) and _within(own, words):
        return False  # a second value, or a reckoning
    return not any(_within(other, words) and not _within(other, own) for other in others)


def _within(part: str, whole: str) -> bool:
    """Whether the words of ``part`` stand together in ``whole``."""
    return bool(part) and f" {part} " in f" {whole} "


def _plain(text: str) -> str:
    """Words in lower case without the punctuation at their edges: "-4" and "4.5" stay what they are.

    Stars go, as they are taken out of answers (bold), so that "5 * 5" is its own text still.
    """
    words = (word.strip(_EDGES) for word in text.casefold().replace(",", " ").replace("*", "").split())
    return " ".join(word for word in words if word)
