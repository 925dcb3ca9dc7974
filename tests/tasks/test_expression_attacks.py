"""Answers that computer algebra would pay: copied expressions, asides, look-alikes; and math-verify as the oracle."""

import itertools

import pytest

from curr_reft.tasks.expression import Equality, LatexPair, compare, is_copied
from curr_reft.tasks.symbolic import verify_all

COPIED = [
    ("391", "17*23", "What is 17*23?"),
    ("391", "17 \\times 23", "What is $17 \\times 23$?"),
    ("391", "23*17+0", "What is 17*23?"),
    ("(x+1)^2", "x^2+2x+1", "Factor x^2 + 2x + 1."),
    ("2\\sqrt{3}", "\\sqrt{12}", "Simplify \\sqrt{12}."),
    ("42", "84/2", "Compute 84/2."),
    ("12", "9 + 3", "There are 3 red and 9 blue cubes."),
    ("30", "5*6 cm", "5 cm by 6 cm"),
]
WORKED_OUT = [
    ("391", "391", "What is 17*23?"),
    ("391", "17*23 = 391", "What is 17*23?"),
    ("3/4", "3/4", "Which is larger, 3/4 or 2/3?"),
    ("0.5", "1/2", "1/2 of the cake is left."),
    ("0.5", "\\frac{1}{2}", "\\frac{1}{2} of the cake is left."),
    ("60", "60^\\circ", "Angle A is 60^\\circ. What is angle B?"),
    ("2√3", "2\\sqrt{3}", "BC = 2\\sqrt{3}. How long is AB?"),
    ("-5", "-5", "x = -5 or y"),
    ("42", "40+2", "A figure with six rows of seven."),
    ("2x+1", "1+2x", "f(x) = 2x+1"),
]


@pytest.mark.parametrize(("truth", "answer", "question"), COPIED)
def test_an_expression_of_the_question_is_copied(truth: str, answer: str, question: str) -> None:
    assert is_copied(truth, answer, question)


@pytest.mark.parametrize(("truth", "answer", "question"), WORKED_OUT)
def test_what_is_worked_out_or_written_as_the_truth_is_not(truth: str, answer: str, question: str) -> None:
    assert not is_copied(truth, answer, question)


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        ("42", "42\\text{ or 17}"),
        ("5", "5 \\text{ dozen}"),
        ("42", "42_17"),
        ("42", "17\\boxed{42}"),
        ("42", "４２"),
        ("42", "4\u200b2"),
        ("42", "42 ≈ 17"),
        ("42", "42\\text{"),
        ("(3, 4)", "\\{3, 4\\}"),
        ("60^\\circ", "60'"),
        ("$5", "5 cents"),
        ("1/2", "1∕2"),
    ],
)
def test_what_algebra_would_pass_over_is_refused_before_it(truth: str, answer: str) -> None:
    assert compare(truth, answer) is False


def test_the_left_side_of_an_equation_is_a_name_or_a_value() -> None:
    assert compare("2\\sqrt{3}", "x = 2\\sqrt{3}") is True
    assert compare("2\\sqrt{3}", "\\angle ABC = 2\\sqrt{3}") is True
    assert compare("2\\sqrt{3}", "\\sqrt{3} = 2\\sqrt{3}") == [LatexPair("2\\sqrt{3}", "\\sqrt{3}")]


@pytest.mark.parametrize(
    ("truth", "answer"),
    [
        ("42", "B. 42"),
        ("42", "(B) 42"),
        ("B", "B. 42"),
        ("1234567", "1{,}234{,}567"),
        ("1234567", "1\\,234\\,567"),
        ("1000", "1\u202f000"),
        ("1, 2", "x = 1, x = 2"),
        ("1.5", "1½"),
        ("42", "$42$ cm"),
        ("42", "= 42"),
        ("$5", "5 dollars"),
        ("2\\sqrt{3}", "2\\sqrt{3} ≈ 3.46"),
        ("25\\pi", "25\\pi ≈ 78.5"),
        ("42", "≈ 42"),
    ],
)
def test_what_models_write_is_decided_without_algebra(truth: str, answer: str) -> None:
    assert compare(truth, answer) is True


def test_commas_of_thousands_are_none_in_a_pair() -> None:
    assert compare("(1, 234)", "(1234)") == [LatexPair("(1, 234)", "(1234)")]


PLAIN = [
    "42",
    "-5",
    "0.5",
    "1/2",
    "\\frac{3}{4}",
    "0.75",
    "50\\%",
    "1,234",
    "1234",
    "2\\sqrt{3}",
    "\\sqrt{12}",
    "25\\pi",
]
PLAIN += [
    "x+1",
    "1+x",
    "(x+1)^2",
    "x^2+2x+1",
    "\\{1,2\\}",
    "\\{2,1\\}",
    "1,2",
    "(0,1]",
    "[0,1)",
    "3",
    "\\log_{2}8",
    "5!",
]


def test_plain_rows_are_paid_as_math_verify_pays_them() -> None:
    """math-verify in this process, without our cleaning and our exact numbers, over all pairs of plain answers."""
    from math_verify import LatexExtractionConfig, parse, verify

    parsed = {
        text: parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)[0]
        for text in PLAIN
    }
    pairs = list(itertools.product(PLAIN, PLAIN))
    ours = verify_all(pairs, timeout=20.0)
    other = [
        (truth, answer, outcome)
        for (truth, answer), outcome in zip(pairs, ours, strict=True)
        if (outcome is Equality.EQUAL) != bool(verify(parsed[truth], parsed[answer], timeout_seconds=None))
    ]
    assert not other
