"""Points: what is right is right in every way it can be written, what is wrong is wrong, and nothing is evaluated."""

import random
import re
import time
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.data.arithmetic import OPERATORS, Operation, Tree, numbers_of, solve, value_of, write
from curr_reft.data.frame import BoxFrame
from curr_reft.data.item import Item
from curr_reft.questions.compile import compile_questions
from curr_reft.tasks import TASKS, TaskOptions
from curr_reft.tasks.base import Pool
from curr_reft.tasks.equations import DEEPEST, LONGEST, read_equation
from curr_reft.tasks.points import FOREIGN, MISSES, TWICE

POINTS = TASKS["points"]
OPTIONS = TaskOptions()
EIGHTS = "8 / (3 - 8 / 3) = 24"


def right(answer: str, truth: str = EIGHTS) -> bool | None:
    """None where the answer cannot be read."""
    parsed = POINTS.parse(answer)
    return None if parsed is None else POINTS.correct(parsed, truth, OPTIONS)


def asked(truth: str, **more: object) -> Item:
    return Item(id=truth, task="points", question="Make it.", truth=truth, **more)  # type: ignore[arg-type]


hands = st.lists(st.integers(1, 13), min_size=4, max_size=4).map(tuple)
solved = hands.filter(lambda hand: solve(hand, 24) is not None)


def truth_of(hand: tuple[int, ...]) -> str:
    tree = solve(hand, 24)
    assert tree is not None
    return f"{write(tree)} = 24"


@given(solved)
def test_the_solvers_solutions_always_verify(hand: tuple[int, ...]) -> None:
    truth = truth_of(hand)
    assert POINTS.read_truth(truth) == truth
    assert right(truth, truth)
    assert right(truth.removesuffix(" = 24"), truth)


@st.composite
def attempts(draw: st.DrawFn) -> tuple[str, str]:
    """(truth, an attempt at it: the same or other numbers, any operators and brackets, any right side or none)."""
    hand = draw(solved)
    numbers = list(draw(st.permutations(hand)))
    for _ in range(draw(st.sampled_from((0, 0, 0, 1)))):
        numbers[draw(st.integers(0, 3))] = draw(st.integers(0, 14))
    parts: list[Tree] = list(numbers)
    while len(parts) > 1:
        place = draw(st.integers(0, len(parts) - 2))
        parts[place : place + 2] = [Operation(draw(st.sampled_from(OPERATORS)), parts[place], parts[place + 1])]
    stated = draw(st.sampled_from(("", " = 24", "=24", " = 25", f" = {value_of(parts[0])}")))
    return truth_of(hand), bracketed(parts[0]) + stated


def bracketed(tree: Tree) -> str:
    """With a pair of brackets around every operation: another way to write than the house's own."""
    if isinstance(tree, int):
        return str(tree)
    return f"({bracketed(tree.left)}{tree.operator}{bracketed(tree.right)})"


def by_python(answer: str, truth: str) -> bool:
    """The rules again, on Python's own arithmetic with fractions: an oracle that shares no line with the verifier."""
    text, _, stated = answer.replace(" ", "").partition("=")
    if stated not in ("", "24") or Counter(re.findall(r"\d+", text)) != Counter(
        re.findall(r"\d+", truth.removesuffix("= 24"))
    ):
        return False
    try:
        return eval(re.sub(r"(\d+)", r"Fraction(\1)", text), {"Fraction": Fraction}) == 24
    except ZeroDivisionError:
        return False


@settings(max_examples=300)
@given(attempts())
def test_attempts_are_judged_as_an_oracle_judges_them(attempt: tuple[str, str]) -> None:
    truth, answer = attempt
    assert bool(right(answer, truth)) == by_python(answer, truth), (truth, answer)


@given(solved, st.randoms(use_true_random=False))
def test_mutated_solutions_are_judged_as_an_oracle_judges_them(hand: tuple[int, ...], rng: random.Random) -> None:
    truth = truth_of(hand)
    text = truth.removesuffix(" = 24")
    places = [place for place, sign in enumerate(text) if sign in OPERATORS]
    place = rng.choice(places)
    answer = text[:place] + rng.choice(OPERATORS) + text[place + 1 :]
    assert right(answer, truth) == by_python(answer, truth)


@pytest.mark.parametrize(
    "answer",
    [
        "8/(3-8/3)",
        "8 ÷ (3 − 8 ÷ 3) = 24",
        "\\boxed{8 \\div (3 - 8 \\div 3) = 24}",
        "\\(8 \\div \\left(3 - 8 \\div 3\\right)\\)",
        "(8) / ((3) - (8 / 3)) = 24.",
        "```\n8 / (3 - 8 / 3) = 24\n```",
    ],
)
def test_ways_to_write_the_same(answer: str) -> None:
    assert right(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "8 * 3 = 24",  # a number left out
        "8 * 3 * 8 / 8 = 24",  # an 8 too many, a 3 missing
        "8 * 3 * (8 / 8) * (3 / 3) = 24",  # numbers used twice
        "8 / (3 - 8 / 3) = 25",
        "8 + 8 + 3 + 3 = 24",
        "8 / (8 - 8) = 24",
        "88 / 33 = 24",
    ],
)
def test_what_is_read_and_wrong(answer: str) -> None:
    assert right(answer) is False


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "24 = 8 / (3 - 8 / 3)",
        "8 / (3 - 8 / 3) = 24 = 24",
        "8 / (3 - 8 / 3) = 20 + 4",
        "-3 + 27",
        "+3",
        "3 * -8",
        "8(3)",
        "2 ** 3",
        "8 // 3",
        "8 3",
        "08 + 1",
        "1000 - 976",
        "8.0 * 3",
        "٨ * 3",
        "８ * 3",
        "K * 3",
        "(8 * 3",
        "8 * 3)",
        "8 *",
        "(" * (DEEPEST + 1) + "8" + ")" * (DEEPEST + 1),
        "+".join("1" * 24),
        "8 * 3 or 8 + 16",
        "1 +" + " " * LONGEST + "1",
    ],
)
def test_what_is_not_read(answer: str) -> None:
    assert right(answer) is None


def test_as_deep_and_as_long_as_allowed_is_read() -> None:
    assert read_equation("(" * DEEPEST + "8 * 3" + ")" * DEEPEST) is not None
    assert read_equation("+".join("1" * 16)) is not None


@given(st.text(alphabet="0123456789+-*/()= ×÷−\\times.^", max_size=300))
def test_no_text_takes_long_or_raises(text: str) -> None:
    started = time.process_time()
    parsed = POINTS.parse(text)
    if parsed is not None:
        assert POINTS.parse(parsed) == parsed
        POINTS.correct(parsed, EIGHTS, OPTIONS)
    assert time.process_time() - started < 0.25


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("8 * 3 = 25", "comes to 24"),
        ("8 * 3", "no equation"),
        ("24 = 24", "no equation"),
        (["8", "3"], "no equation"),
        ("8 / (3 - 3) = 24", "divides by 0"),
        ("3 - 3 = 0", "above 0"),
        ("1 + 1 + 1 + 1 + 1 + 1 = 6", "6 numbers; at most 5"),
    ],
)
def test_truths_that_are_none(raw: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        POINTS.read_truth(raw)


@given(solved, st.integers(0, 2**32))
def test_false_claims_are_wrong_plausible_and_different(hand: tuple[int, ...], seed: int) -> None:
    item = asked(truth_of(hand))
    claims = POINTS.false_claims(item, Pool(), random.Random(seed), 3, apart=True)
    assert claims == POINTS.false_claims(item, Pool(), random.Random(seed), 3, apart=True)
    assert len(set(claims)) == len(claims) == 3
    for claim in map(str, claims):
        assert not by_python(claim, str(item.truth))
        equation = read_equation(claim)
        assert equation is not None
        assert equation.stated == 24
        assert len(numbers_of(equation.tree)) == 4
        kind = POINTS.claim_kind(item, claim, Pool())
        value = value_of(equation.tree)
        assert (value == 24) == (kind != MISSES), (claim, kind)
        assert value is not None
        assert value.denominator == 1
        assert 0 < value <= 99


def test_every_kind_of_false_claim_is_made() -> None:
    rng = random.Random(0)
    hands = [tuple(rng.randint(1, 10) for _ in range(4)) for _ in range(200)]
    items = [asked(truth_of(hand)) for hand in dict.fromkeys(hands) if solve(hand, 24) is not None]
    kinds = Counter(
        POINTS.claim_kind(item, claim, Pool())
        for item in items
        for claim in POINTS.false_claims(item, Pool(), random.Random(item.id), 1)
    )
    assert set(kinds) == {MISSES, FOREIGN, TWICE}
    assert min(kinds.values()) > len(items) / 6


def test_equations_that_a_row_gives_come_first_unless_they_are_right() -> None:
    item = asked(EIGHTS, distractors=("9 - 3 * 1 + 18 = 24", "8 / (3 - 8 / 3) = 24"))
    claims = POINTS.false_claims(item, Pool(), random.Random(0), 2, apart=True)
    assert claims[0] == "9 - 3 * 1 + 18 = 24"
    assert POINTS.claim_kind(item, claims[0], Pool()) == "given by the row"
    assert EIGHTS not in claims


def test_the_three_forms_are_balanced_and_say_what_is_asked() -> None:
    rng = random.Random(1)
    found = {tuple(sorted(rng.randint(1, 10) for _ in range(4))) for _ in range(80)}
    items = [asked(truth_of(hand)) for hand in sorted(found) if solve(hand, 24) is not None][:40]
    made, card = compile_questions(items, ["binary", "choice", "open"], seed=0, frame=BoxFrame("pixels"))
    assert {form: len(questions) for form, questions in made.items()} == dict.fromkeys(made, 40)
    assert card.to_dict()["splits"]["train"]["balance"]["yes_off"] == {"points": 0.0}
    assert "uses the number of every card exactly once" in made["binary"][0].prompt
    assert "like 2 * (3 + 4) - 5 = 9" in made["open"][0].prompt
    for question in made["choice"]:
        rightly = [bool(right(option, str(items[made["choice"].index(question)].truth))) for option in question.options]
        assert rightly.count(True) == 1
        assert question.truth == frozenset("ABCD"[rightly.index(True)])
