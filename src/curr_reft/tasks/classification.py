"""Classification: which categories are in the image? The answer is a list of names, scored by Jaccard.

Curr-ReFT section 3: size of the intersection over size of the union. The reference code splits on white space, which
makes two classes of "traffic light"; here names stay whole and are compared after normalisation.
"""

import random
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from curr_reft.data.item import Box, Item, Truth
from curr_reft.tasks.base import Frame, Pool, TaskOptions

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


class Classification:
    """A set of category names per answer."""

    name = "classification"
    absent = "the data knows no category that is absent from the image"
    several = True

    def read_truth(self, raw: Any) -> tuple[str, ...]:
        """Names from a list of texts or from one text, normalised, each once. Raises ValueError."""
        if isinstance(raw, list | tuple):
            wrong = [value for value in raw if not isinstance(value, str)]
            if wrong:
                raise ValueError(f"{wrong[0]!r} is no category name; write a list of texts")
            names = tuple(dict.fromkeys(name for name in map(normalise_name, raw) if name)) or None
        elif isinstance(raw, str):
            names = read_names(raw)
        else:
            raise ValueError(f"{raw!r} is no list of category names")
        if not names:
            raise ValueError(f"{raw!r} holds no category name; at least one is needed")
        return names

    def parse(self, answer: str) -> tuple[str, ...] | None:
        return read_names(answer)

    def score(self, parsed: tuple[str, ...], truth: Truth, options: TaskOptions) -> float:
        given, true = _as_set(parsed, options.plurals), _as_set(_names(truth), options.plurals)
        return len(given & true) / len(given | true)

    def correct(self, parsed: tuple[str, ...], truth: Truth, options: TaskOptions) -> bool:
        return _as_set(parsed, options.plurals) == _as_set(_names(truth), options.plurals)

    def write(self, truth: Truth) -> str:
        return ", ".join(_names(truth))

    def claim(self, truth: Truth) -> str:
        return ", ".join(_names(truth))

    def option(self, truth: Truth) -> str:
        return ", ".join(_names(truth))

    def verification(self, parsed: Any, truth: Truth) -> None:
        return None

    def singles(self, truth: Truth) -> tuple[Truth, ...]:
        return tuple((name,) for name in _names(truth))

    def place(self, item: Item, frame: Frame) -> tuple[Item, Box | None]:
        return item, None

    def pool(self, items: list[Item]) -> Pool:
        names = {name for item in items for truth in (item.truth, *item.distractors) for name in _names(truth)}
        return Pool(names=tuple(sorted(names)))

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Single categories that are not in the image; distinct names are wrong with each other by definition."""
        # "dogs" is no honest false claim for an image with a dog, whatever the table of plurals says.
        present = {_singular(name) for name in _names(item.truth)}

        def absent(names: set[str]) -> list[str]:
            return sorted(name for name in names if _singular(name) not in present)

        known = absent({name for distractor in item.distractors for name in _names(distractor)})
        rest = absent(set(pool.names) - set(known))
        rng.shuffle(known)
        return [(name,) for name in (known + rng.sample(rest, min(n, len(rest))))[:n]]


def _names(truth: Truth) -> tuple[str, ...]:
    assert isinstance(truth, tuple), truth
    return tuple(str(name) for name in truth)


def _singular(name: str) -> str:
    return name.removesuffix("s")


def _as_set(names: tuple[str, ...], plurals: Mapping[str, str]) -> frozenset[str]:
    return frozenset(plurals.get(name, name) for name in names)
