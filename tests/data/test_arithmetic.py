"""Expressions: exact, written so that they read back as the same value, and a solver held to a search of all trees."""

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations_with_replacement, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.data.arithmetic import OPERATORS, Operation, Tree, numbers_of, solve, value_of, write
from curr_reft.tasks.equations import read_equation

trees: st.SearchStrategy[Tree] = st.recursive(
    st.integers(0, 13), lambda inner: st.builds(Operation, st.sampled_from(OPERATORS), inner, inner), max_leaves=8
)


def by_python(text: str) -> Fraction | None:
    """What Python makes of our own text, number by number as a fraction: an oracle that shares no line with ours."""
    code = "".join(f"Fraction({part})" if part.isdecimal() else part for part in text.replace("(", "( ").split())
    try:
        return eval(code.replace("( ", "("), {"Fraction": Fraction})
    except ZeroDivisionError:
        return None


def spaced(text: str) -> str:
    return text.replace("(", " ( ").replace(")", " ) ")


@given(trees)
def test_what_is_written_has_the_value_of_the_tree(tree: Tree) -> None:
    assert value_of(tree) == by_python(spaced(write(tree)))


@given(trees)
def test_what_is_written_reads_back(tree: Tree) -> None:
    read = read_equation(write(tree))
    assert read is not None
    assert (read.text, value_of(read.tree), numbers_of(read.tree)) == (write(tree), value_of(tree), numbers_of(tree))


def reachable(numbers: tuple[int, ...], target: int) -> bool:
    """Every order of the numbers, every choice of operators, all five ways to set the brackets of four numbers."""
    ways = ("((a{}b){}c){}d", "(a{}(b{}c)){}d", "(a{}b){}(c{}d)", "a{}((b{}c){}d)", "a{}(b{}(c{}d))")
    codes = [compile(way.format(*signs), "", "eval") for signs in product(OPERATORS, repeat=3) for way in ways]

    def values() -> Iterator[Fraction]:
        for order in set(permutations(map(Fraction, numbers))):
            names = dict(zip("abcd", order, strict=True))
            for code in codes:
                try:
                    yield eval(code, {}, names)
                except ZeroDivisionError:
                    continue

    return target in values()


HANDS = list(combinations_with_replacement(range(1, 14), 4))


@pytest.mark.parametrize("target", [24, 7])
def test_the_solver_finds_a_solution_exactly_where_there_is_one(target: int) -> None:
    for hand in random.Random(target).sample(HANDS, 12):
        found = solve(hand, target)
        assert (found is not None) == reachable(hand, target), hand
        if found is not None:
            assert sorted(numbers_of(found)) == sorted(hand)
            assert value_of(found) == target


def test_as_many_hands_reach_24_as_is_known() -> None:
    """1,362 of 1,820 with the numbers 1 to 13, and 566 of 715 with 1 to 10 (tables of the 24 game)."""
    solved = [hand for hand in HANDS if solve(hand, 24) is not None]
    assert len(HANDS) == 1820
    assert (len(solved), sum(max(hand) <= 10 for hand in solved)) == (1362, 566)


def test_solutions_are_plain_and_do_not_depend_on_the_order() -> None:
    def written(*numbers: int) -> str:
        tree = solve(numbers, 24)
        assert tree is not None
        return write(tree)

    assert written(8, 3, 8, 3) == written(3, 3, 8, 8) == "8 / (3 - 8 / 3)"
    assert "/" not in written(6, 6, 6, 6)
    assert solve((1, 1, 1, 1), 24) is None
    assert solve((24,), 24) == 24
