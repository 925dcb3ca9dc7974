"""Classification: which categories are in the image? The answer is a list of names, scored by Jaccard.

Curr-ReFT section 3: size of the intersection over size of the union. How names are read stands in
``names.py``.
"""

import random
from collections.abc import Mapping
from typing import Any

from curr_reft.data.item import Box, Item, Truth
from curr_reft.tasks.base import Frame, Pool, TaskOptions
from curr_reft.tasks.names import normalise_name, read_names


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
