"""Reads an equation of whole numbers, ``8 / (3 - 8 / 3) = 24``, by a parser of its own: nothing is ever evaluated.

Operators stand between two numbers or brackets: there is no unary minus, no power, no ``4(5 + 1)``. The right side, if
there is one, is one number. Signs of typesetting are read as those of the keyboard (× ÷ −, ``\\times``, ``\\div``).
Letters and digits of other alphabets are not read, and nor is a chain of equations.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from curr_reft.data.arithmetic import Operation, Tree
from curr_reft.tasks.wrappers import punctuated, unwrapped

LONGEST = 200  # characters
DEEPEST = 8  # brackets in one another
MOST_NUMBERS = 16

_SIGNS = str.maketrans("×·⋅÷−", "***/-")
_COMMANDS = {"\\times": "*", "\\cdot": "*", "\\div": "/", "\\left(": "(", "\\right)": ")", "\\(": " ", "\\)": " "}
# Three digits at most, and no zero before others: 007 is no card.
_TOKEN = re.compile(r"\s*(?:((?:0|[1-9][0-9]{0,2})(?![0-9]))|([-+*/()=]))")


@dataclass(frozen=True)
class Equation:
    """What a text says."""

    tree: Tree
    stated: int | None  # the right side; None where the text is an expression alone
    text: str  # in one spelling: ASCII signs, one space around each operator


def read_equation(text: str) -> Equation | None:
    """None for what is not plainly one equation, or one expression. Never raises; takes time linear in the text."""
    if len(text) > 4 * LONGEST:  # room for a code fence and white space; beyond it nothing is looked at
        return None
    text = unwrapped(punctuated(text)).translate(_SIGNS)
    for command, sign in _COMMANDS.items():
        text = text.replace(command, sign)
    text = text.strip().removesuffix(".")
    tokens = _tokens(text) if len(text) <= LONGEST else None
    if tokens is None:
        return None
    stated = None
    if len(tokens) > 2 and tokens[-2] == "=" and tokens[-1].isdecimal():
        stated = int(tokens[-1])
        tokens = tokens[:-2]
    reader = _Reader(tokens)
    tree = reader.sum(0)
    if tree is None or reader.place < len(tokens):
        return None
    return Equation(tree=tree, stated=stated, text=_spelled(tokens) + ("" if stated is None else f" = {stated}"))


def _tokens(text: str) -> list[str] | None:
    found, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            return None
        found.append(match[1] or match[2])
        place = match.end()
    numbers = sum(token.isdecimal() for token in found)
    return found if len(found) >= 1 and numbers <= MOST_NUMBERS + 1 else None


class _Reader:
    """Recursive descent; how deep it goes is bounded by DEEPEST."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0

    def sum(self, depth: int) -> Tree | None:
        return self._chain("+-", self.product, depth)

    def product(self, depth: int) -> Tree | None:
        return self._chain("*/", self.atom, depth)

    def atom(self, depth: int) -> Tree | None:
        token = self._take()
        if token is not None and token.isdecimal():
            return int(token)
        if token != "(" or depth >= DEEPEST:
            return None
        inner = self.sum(depth + 1)
        return inner if self._take() == ")" else None

    def _chain(self, operators: str, part: Callable[[int], Tree | None], depth: int) -> Tree | None:
        tree = part(depth)
        while tree is not None and self.place < len(self.tokens) and self.tokens[self.place] in operators:
            operator = self.tokens[self.place]
            self.place += 1
            right = part(depth)
            tree = None if right is None else Operation(operator, tree, right)
        return tree

    def _take(self) -> str | None:
        if self.place == len(self.tokens):
            return None
        self.place += 1
        return self.tokens[self.place - 1]


def _spelled(tokens: list[str]) -> str:
    return "".join(f" {token} " if token in "+-*/" else token for token in tokens)
