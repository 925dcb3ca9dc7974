"""Classification: which categories are in the image? The answer is a list of names, scored by Jaccard.

Curr-ReFT section 3: size of the intersection over size of the union. How names are read stands in
``names.py``.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from curr_reft.data.item import Item, Name, Truth
from curr_reft.tasks.base import Pool, TaskDefaults, TaskOptions
from curr_reft.tasks.names import (
    NameList,
    normalise_name,
    read_names,
    read_spellings,
    resolve,
    spelling_key,
)


class Classification(TaskDefaults):
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
            spellings = list(raw)
        elif isinstance(raw, str):
            spellings = read_spellings(raw)
        else:
            raise ValueError(f"{raw!r} is no list of category names")
        names = (Name(normalise_name(each), each, spelling_key(each)) for each in spellings)
        read = tuple(dict.fromkeys(name for name in names if name))
        if not read:
            raise ValueError(f"{raw!r} holds no category name; at least one is needed")
        return read

    def parse(self, answer: str) -> NameList | None:
        return read_names(answer)

    def as_answer(self, raw: Any) -> str | None:
        """The list as the prompt asks for it: the names of the row, separated by commas."""
        return ", ".join(raw) if isinstance(raw, list | tuple) else super().as_answer(raw)

    def canonical(self, truth: Truth, options: TaskOptions) -> tuple[str, ...]:
        assert isinstance(truth, tuple), truth
        return tuple(dict.fromkeys(_counted(map(_text, truth), options)))

    def score(self, parsed: tuple[str, ...], truth: Truth, options: TaskOptions) -> float:
        """By ``rewards.classification.score``; Jaccard is that of Curr-ReFT section 3."""
        given, true = _given_and_true(parsed, truth, options)
        return _SCORES[options.tasks.classification.score](given, true)

    def correct(self, parsed: tuple[str, ...], truth: Truth, options: TaskOptions) -> bool:
        given, true = _given_and_true(parsed, truth, options)
        return given == true

    def write(self, truth: Truth) -> str:
        return ", ".join(_names(truth))

    def claim(self, truth: Truth) -> str:
        return ", ".join(_names(truth))

    def option(self, truth: Truth) -> str:
        return ", ".join(_names(truth))

    def singles(self, truth: Truth) -> tuple[Truth, ...]:
        return tuple((name,) for name in _names(truth))

    def pool(self, items: list[Item]) -> Pool:
        """The categories of the data, the words of each as its families, and how often two stand in one item."""
        names: set[str] = set()
        together: dict[str, Counter[str]] = {}
        for item in items:
            shown = _names(item.truth)
            names.update(shown, *(_names(distractor) for distractor in item.distractors))
            for name in shown:
                together.setdefault(name, Counter()).update(other for other in shown if other != name)
        return Pool(names=tuple(names), families={name: frozenset(name.split()) for name in names}, together=together)

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Single categories that are not in the image, the most plausible first; distinct names are wrong with each
        other by definition.

        First those the row gives, then those of the same family as one in the image (a shared word, or the table
        ``questions.families``), then those often seen beside one in the image (drawn by how often, as the adversarial
        setting of POPE does, arXiv 2305.10355, so that a common category is a false claim too), then any other.
        """
        # "dogs" is no honest false claim for an image with a dog, whatever the table of aliases says.
        present = {_singular(name) for name in _names(item.truth)}

        def absent(names: set[str]) -> list[str]:
            return sorted(name for name in names if _singular(name) not in present)

        chosen = absent({name for distractor in item.distractors for name in _names(distractor)})
        rest = absent(set(pool.names) - set(chosen))
        rng.shuffle(chosen)
        if pool.families and len(chosen) < n:
            kin = _kin(item, pool)
            near = [name for name in rest if not kin.isdisjoint(pool.families.get(name, ()))]
            chosen += rng.sample(near, len(near))
        if pool.families and len(chosen) < n:
            beside = _beside(item, pool)
            # Weighted draws without replacement (Efraimidis and Spirakis 2006): the largest u^(1/weight) first.
            drawn = {name: rng.random() ** (1 / beside[name]) for name in rest if name in beside and name not in chosen}
            chosen += sorted(drawn, key=lambda name: -drawn[name])
        rest = [name for name in rest if name not in chosen]
        return [(name,) for name in (chosen + rng.sample(rest, min(n, len(rest))))[:n]]

    def claim_kind(self, item: Item, claim: Truth, pool: Pool) -> str:
        (name,) = _names(claim)
        if any(name in _names(distractor) for distractor in item.distractors):
            return "given by the row"
        if _kin(item, pool) & pool.families.get(name, frozenset()):
            return "absent category of the same family"
        return "absent category seen beside" if name in _beside(item, pool) else "any absent category"


def _kin(item: Item, pool: Pool) -> frozenset[str]:
    """The families of the categories in the image."""
    return frozenset().union(*(pool.families.get(name, frozenset()) for name in _names(item.truth)))


def _beside(item: Item, pool: Pool) -> Counter[str]:
    """Category -> how often it stands in an item together with one that is in this image."""
    return sum((Counter(pool.together.get(name, {})) for name in _names(item.truth)), Counter())


def _text(name: Any) -> str:
    return name if isinstance(name, str) else str(name)  # a Name stays one


def _names(truth: Truth) -> tuple[str, ...]:
    assert isinstance(truth, tuple), truth
    return tuple(str(name) for name in truth)


def _singular(name: str) -> str:
    return name.removesuffix("s")


def _given_and_true(
    parsed: tuple[str, ...], truth: Truth, options: TaskOptions
) -> tuple[frozenset[str], frozenset[str]]:
    """The names of the answer and of the truth, "and" resolved where it does not belong to a name that is known."""
    true = _names(truth)
    aliases = options.tasks.classification.aliases
    given = resolve(parsed, {*true, *aliases, *aliases.values()})
    return frozenset(_counted(given, options)), frozenset(_counted(true, options))


def _counted(names: Iterable[str], options: TaskOptions) -> Iterator[str]:
    """The names with their aliases resolved."""
    aliases = options.tasks.classification.aliases
    return (aliases.get(name, name) for name in names)


Names: TypeAlias = frozenset[str]

# Neither set is ever empty: an answer without a name does not parse, and a truth without one is refused.
_SCORES: Mapping[str, Callable[[Names, Names], float]] = {
    "jaccard": lambda given, true: len(given & true) / len(given | true),
    "exact": lambda given, true: float(given == true),
    "precision": lambda given, true: len(given & true) / len(given),
    "recall": lambda given, true: len(given & true) / len(true),
    "f1": lambda given, true: 2 * len(given & true) / (len(given) + len(true)),
}
