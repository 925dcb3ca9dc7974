"""One decision word, and nothing else."""

import pytest

from curr_reft.tasks.decisions import read_decision


@pytest.mark.parametrize(
    "text", ["yes", "Yes.", " TRUE ", "**yes**", "“Yes”", "\\boxed{Yes}", "(true)", "```\nyes\n```"]
)
def test_yes(text: str) -> None:
    assert read_decision(text) is True


@pytest.mark.parametrize("text", ["no", "No!", "FALSE", "'no'", "[No]", "$\\text{no}$", "no。"])
def test_no(text: str) -> None:
    assert read_decision(text) is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "maybe",
        "yes or no",
        "No, that is not true",
        "yes yes",
        "y",
        "ｙｅｓ",
        "yеs",
        "ye\u200bs",
        "not no",
        "1",
        "yes" * 50,
    ],
)
def test_anything_else_decides_nothing(text: str) -> None:
    assert read_decision(text) is None
