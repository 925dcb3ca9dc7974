"""Option letters as a set; prose is not read."""

from string import ascii_uppercase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.tasks.letters import read_letters

SHAPES = ("red circle", "blue square", "green cross", "Vitamin C")


@pytest.mark.parametrize(
    "text",
    [
        "A, C",
        "A,C",
        "AC",
        "CA",
        "A C",
        "A and C",
        "C and A",
        "(A) (C)",
        "A; C",
        "a, c",
        "[A, C]",
        "A.C.",
        "A & C",
        "A. red circle\nC. green cross",
        "(A) red circle, (C) green cross",
        "A) C)",
        "The answers are A and C.",
    ],
)
def test_one_set_in_many_writings(text: str) -> None:
    assert read_letters(text, SHAPES) == {"A", "C"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "A dog is option C",
        "a dog",
        "A dog",
        "A or C",
        "not A",
        "I think A",
        "cat",
        "DAD",
        "1",
        "é",
        "A1",
        "A. blue square",
        "A. red circle or C",
        "A. not this",
        "the answer",
        "answer",
        "option",
        "A) I mean C",
    ],
)
def test_what_is_not_plainly_letters_is_not_read(text: str) -> None:
    assert read_letters(text, SHAPES) is None


def test_text_of_an_option_may_hold_a_capital_of_its_own() -> None:
    assert read_letters("D. Vitamin C", SHAPES) == {"D"}
    assert read_letters("D. Vitamin C", ()) is None, "without the options, the C might be a second answer"


@given(
    st.sets(st.sampled_from(ascii_uppercase), min_size=1), st.sampled_from([", ", ",", " ", " and ", "", ") (", "\n"])
)
def test_every_set_of_letters_is_read_back(letters: set[str], separator: str) -> None:
    assert read_letters(separator.join(sorted(letters))) == letters


@given(st.text() | st.text(alphabet="ABCabc ().,;:\n*$\\{}text", max_size=40))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    letters = read_letters(text, SHAPES)
    assert letters is None or (letters and letters <= set(ascii_uppercase))
