"""What surrounds an answer is taken away, and only where it surrounds the whole."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.tasks.wrappers import punctuated, unwrapped


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("```json\n[1]\n```", "[1]"),
        ("```\ndog\n```", "dog"),
        ("```json [1]```", "[1]"),
        ("```dog```", "dog"),
        ("**$\\boxed{\\text{B}}$**", "B"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("`a`", "a"),
        ("$x$", "x"),
        ("$x$ and $y$", "$x$ and $y$"),
        ("**a** and **b**", "**a** and **b**"),
        ("\\boxed{a}\\boxed{b}", "\\boxed{a}\\boxed{b}"),
        ("\\boxed{a} b}", "\\boxed{a} b}"),
        ("$", "$"),
        ("****", "****"),
        ("```", "```"),
    ],
)
def test_wrappers(text: str, inside: str) -> None:
    assert unwrapped(text) == inside


@given(st.text())
def test_letters_and_digits_are_never_folded(text: str) -> None:
    """Whatever changes is punctuation or a space, and lengths stay, so that places in the text stay too."""
    changed = punctuated(text)
    assert len(changed) == len(text)
    for before, after in zip(text, changed, strict=True):
        if before != after:
            assert unicodedata.category(before)[0] in "PSZ"
            assert after.isascii()
            assert not after.isalnum()


@given(st.text(max_size=60))
def test_what_is_inside_is_a_part_of_the_text(text: str) -> None:
    assert unwrapped(text) in text
