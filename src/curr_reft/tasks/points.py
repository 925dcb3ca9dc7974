"""Points: reach a target with the numbers of some cards, each used once (GeneralPoints, arXiv 2501.17161).

A truth is one right equation, ``8 / (3 - 8 / 3) = 24``; its numbers are those of the cards, its right side is the
target. An answer is right when its own numbers are the same, each as often, and its exact value is the target: which of
the many right equations it is does not matter. What it says behind ``=`` must be the target too; the published
environment drops what stands there.
"""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from curr_reft.data.arithmetic import OPERATORS, Operation, Tree, numbers_of, solve, value_of, write
from curr_reft.data.item import Item, Truth
from curr_reft.tasks.base import Pool, TaskDefaults, TaskOptions
from curr_reft.tasks.equations import Equation, read_equation

TRIES = 40  # wrong equations proposed for one that is asked for
HIGHEST_CARD = 13
MOST_CARDS = 5  # of a truth: other equations of its numbers are searched for
HIGHEST_MISS = 99  # of the value of an equation that misses: a whole number that a slip could give

MISSES, FOREIGN, TWICE = "the right numbers, another value", "a number that is not there", "a number used twice"


class Points(TaskDefaults):
    """One equation an answer, as text."""

    name = "points"
    absent = "no wrong equation could be made of its numbers"

    def read_truth(self, raw: Any) -> str:
        """A right equation with its target behind ``=``. Raises ValueError."""
        equation = read_equation(raw) if isinstance(raw, str) else None
        if equation is None or equation.stated is None or isinstance(equation.tree, int):
            raise ValueError(f"{raw!r} is no equation; write for example 8 / (3 - 8 / 3) = 24")
        count = len(numbers_of(equation.tree))
        if count > MOST_CARDS:
            raise ValueError(f"{raw!r} has {count} numbers; at most {MOST_CARDS} can be asked for")
        value = value_of(equation.tree)
        if value != equation.stated or value == 0:
            comes_to = "divides by 0" if value is None else f"comes to {value}"
            raise ValueError(f"{raw!r} {comes_to}; a truth is an equation that holds, with a target above 0")
        return equation.text

    def parse(self, answer: str) -> str | None:
        """The equation, or the expression, in one spelling."""
        equation = read_equation(answer)
        return None if equation is None else equation.text

    def score(self, parsed: str, truth: Truth, options: TaskOptions) -> float:
        return float(self.correct(parsed, truth, options))

    def correct(self, parsed: str, truth: Truth, options: TaskOptions) -> bool:
        """By exact arithmetic."""
        given, true = _equation(parsed), _equation(str(truth))
        return (
            Counter(numbers_of(given.tree)) == Counter(numbers_of(true.tree))
            and given.stated in (None, true.stated)
            and value_of(given.tree) == true.stated
        )

    def write(self, truth: Truth) -> str:
        return str(truth)

    def claim(self, truth: Truth) -> str:
        return str(truth)

    def option(self, truth: Truth) -> str:
        return str(truth)

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Equations with the same right side that are wrong, of each kind in turn; all are different.

        Of those that a row gives, the ones that are wrong come first.
        """
        true = _equation(str(item.truth))
        assert true.stated is not None, true
        given = [str(each) for each in item.distractors]
        rng.shuffle(given)
        makers = list(_MAKERS.values())
        rng.shuffle(makers)
        chosen: list[Truth] = []
        for place in range(len(given) + n * TRIES):
            if len(chosen) == n:
                break
            if place < len(given):
                text: str | None = given[place]
            else:
                tree = makers[(place - len(given)) % len(makers)](true.tree, true.stated, rng)
                text = None if tree is None else f"{write(tree)} = {true.stated}"
            if text is not None and text not in chosen and not self.correct(text, item.truth, TaskOptions()):
                chosen.append(text)
        return chosen

    def claim_kind(self, item: Item, claim: Truth, pool: Pool) -> str:
        if claim in item.distractors:
            return "given by the row"
        own = Counter(numbers_of(_equation(str(claim)).tree))
        true = Counter(numbers_of(_equation(str(item.truth)).tree))
        if own == true:
            return MISSES
        return TWICE if set(own) <= set(true) else FOREIGN


def _equation(text: str) -> Equation:
    equation = read_equation(text)
    assert equation is not None, text  # it was read before: parse, or read_truth
    return equation


def _missing(tree: Tree, target: int, rng: random.Random) -> Tree | None:
    """The right equation with one operator changed or two numbers exchanged, else its numbers joined at random."""
    for _ in range(TRIES):
        made = rng.choice((_other_operator, _exchanged, _joined))(tree, rng)
        value = value_of(made)
        if value is not None and value != target and value.denominator == 1 and 0 < value <= HIGHEST_MISS:
            return made
    return None


def _foreign(tree: Tree, target: int, rng: random.Random) -> Tree | None:
    """A right equation of numbers one of which is another."""
    numbers = numbers_of(tree)
    place = rng.randrange(len(numbers))
    # A neighbour is what a careless look gives, and from 10 on what another rule for J, Q and K does.
    near = [number for number in range(1, HIGHEST_CARD + 1) if 0 < abs(number - numbers[place]) <= 3]
    if not near:
        return None
    numbers[place] = rng.choice(near)
    return solve(tuple(numbers), target)


def _twice(tree: Tree, target: int, rng: random.Random) -> Tree | None:
    """A right equation that uses one number once more, in the place of another."""
    numbers = numbers_of(tree)
    place, source = rng.sample(range(len(numbers)), 2)
    if numbers[place] == numbers[source]:
        return None
    numbers[place] = numbers[source]
    return solve(tuple(numbers), target)


_MAKERS: dict[str, Callable[[Tree, int, random.Random], Tree | None]] = {
    MISSES: _missing,
    FOREIGN: _foreign,
    TWICE: _twice,
}


def _other_operator(tree: Tree, rng: random.Random) -> Tree:
    """One operation, chosen evenly, with another operator."""
    assert isinstance(tree, Operation)
    steps = len(numbers_of(tree)) - 1
    return _changed(tree, rng.randrange(steps), rng.choice(OPERATORS))


def _changed(tree: Tree, place: int, operator: str) -> Tree:
    """The operation at ``place``, counted from the left, with ``operator``."""
    assert isinstance(tree, Operation)
    before = len(numbers_of(tree.left)) - 1
    if place == before:
        return tree._replace(operator=operator)
    if place < before:
        return tree._replace(left=_changed(tree.left, place, operator))
    return tree._replace(right=_changed(tree.right, place - before - 1, operator))


def _exchanged(tree: Tree, rng: random.Random) -> Tree:
    """Two numbers change places."""
    numbers = numbers_of(tree)
    first, second = rng.sample(range(len(numbers)), 2)
    numbers[first], numbers[second] = numbers[second], numbers[first]
    return _filled(tree, iter(numbers).__next__)


def _filled(tree: Tree, number: Callable[[], int]) -> Tree:
    """The same operations with other numbers, from left to right."""
    if isinstance(tree, int):
        return number()
    left = _filled(tree.left, number)
    return Operation(tree.operator, left, _filled(tree.right, number))


def _joined(tree: Tree, rng: random.Random) -> Tree:
    """The numbers joined two by two, at random."""
    parts: list[Tree] = list(numbers_of(tree))
    while len(parts) > 1:
        first, second = rng.sample(parts, 2)
        parts.remove(first)
        parts.remove(second)
        parts.append(Operation(rng.choice(OPERATORS), first, second))
    return parts[0]
