"""Expressions of whole numbers with + - * /: their exact value, their spelling, and one that reaches a target.

A tree is a number, or an operator between two trees. There is no unary minus: what can be reached with one can be
reached without (``-a + b`` is ``b - a``), for every target above 0. Texts are read by ``tasks/equations.py``.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple, TypeAlias

OPERATORS = "+-*/"
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2}
_ATOM = 3


class Operation(NamedTuple):
    """An operator between two trees."""

    operator: str  # of OPERATORS
    left: "Tree"
    right: "Tree"


Tree: TypeAlias = int | Operation


class _Found(NamedTuple):
    """A tree with what makes it plain, the weightiest first."""

    rough: int  # steps whose result is below 0 or no whole number
    divisions: int
    length: int
    text: str
    tree: Tree


def value_of(tree: Tree) -> Fraction | None:
    """The exact value; None where something is divided by 0."""
    if isinstance(tree, int):
        return Fraction(tree)
    left, right = value_of(tree.left), value_of(tree.right)
    return None if left is None or right is None else _apply(tree.operator, left, right)


def numbers_of(tree: Tree) -> list[int]:
    """The numbers from left to right."""
    return [tree] if isinstance(tree, int) else numbers_of(tree.left) + numbers_of(tree.right)


def write(tree: Tree) -> str:
    """With the parentheses that are needed and no other: ``8 / (3 - 8 / 3)``."""
    if isinstance(tree, int):
        return str(tree)
    binds = _BINDS[tree.operator]
    left, right = write(tree.left), write(tree.right)
    if _strength(tree.left) < binds:
        left = f"({left})"
    if _strength(tree.right) < binds or (_strength(tree.right) == binds and tree.operator in "-/"):
        right = f"({right})"
    return f"{left} {tree.operator} {right}"


def solve(numbers: tuple[int, ...], target: int) -> Tree | None:
    """The plainest tree that uses each of ``numbers`` once and comes to ``target`` (above 0), None when there is none.

    Plain: few steps below 0 or between whole numbers, few divisions, a short text; then the first in the alphabet.
    The order of the numbers does not matter.
    """
    return _solve(tuple(sorted(numbers)), target)


@lru_cache(maxsize=100_000)
def _solve(numbers: tuple[int, ...], target: int) -> Tree | None:
    if len(numbers) == 1:
        return numbers[0] if numbers[0] == target else None
    wanted = Fraction(target)
    found: list[_Found] = []
    for ones, others in _parts(numbers):
        across = _values(others)
        for value, one in _values(ones).items():
            for operator, partner, first in _partners(value, wanted):
                if partner in across:
                    other = across[partner]
                    found.append(_join(operator, *((one, other) if first else (other, one)), wanted))
    return min(found, key=_plainness).tree if found else None


@lru_cache(maxsize=20_000)
def _values(numbers: tuple[int, ...]) -> Mapping[Fraction, _Found]:
    """Every value that uses each number once, with the plainest tree for it. ``numbers`` are sorted."""
    if len(numbers) == 1:
        return {Fraction(numbers[0]): _Found(0, 0, len(str(numbers[0])), str(numbers[0]), numbers[0])}
    best: dict[Fraction, _Found] = {}
    for ones, others in _parts(numbers):
        for a, one in _values(ones).items():
            for b, other in _values(others).items():
                for operator in OPERATORS:
                    for x, y, left, right in ((a, b, one, other), (b, a, other, one)):
                        value = _apply(operator, x, y)
                        if value is not None:
                            found = _join(operator, left, right, value)
                            best[value] = min(best.get(value, found), found, key=_plainness)
    return best


def _parts(numbers: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The ways to part a multiset in two, each once: the smaller part first."""
    seen = set()
    places = range(len(numbers))
    for size in range(1, len(numbers) // 2 + 1):
        for taken in combinations(places, size):
            ones = tuple(numbers[place] for place in taken)
            others = tuple(numbers[place] for place in places if place not in taken)
            if ones not in seen and (len(others) > size or others not in seen):
                seen.add(ones)
                yield ones, others


def _partners(value: Fraction, wanted: Fraction) -> Iterator[tuple[str, Fraction, bool]]:
    """(operator, what stands on the other side, whether ``value`` stands on the left) of all ways to ``wanted``."""
    yield "+", wanted - value, True
    yield "+", wanted - value, False
    yield "-", value - wanted, True
    yield "-", value + wanted, False
    if value:
        yield "*", wanted / value, True
        yield "*", wanted / value, False
        yield "/", value / wanted, True
        yield "/", value * wanted, False


def _join(operator: str, left: _Found, right: _Found, value: Fraction) -> _Found:
    tree = Operation(operator, left.tree, right.tree)
    text = write(tree)
    return _Found(
        left.rough + right.rough + (value < 0 or value.denominator != 1),
        left.divisions + right.divisions + (operator == "/"),
        len(text),
        text,
        tree,
    )


def _plainness(found: _Found) -> tuple[int, int, int, str]:
    return found[:4]


def _apply(operator: str, left: Fraction, right: Fraction) -> Fraction | None:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return left / right if right else None


def _strength(tree: Tree) -> int:
    return _ATOM if isinstance(tree, int) else _BINDS[tree.operator]
