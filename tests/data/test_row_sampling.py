"""all, first:N, end:N, random:N, with counts and percentages."""

import pytest

from curr_reft.data.sampling import Sampling
from curr_reft.seeding import stream


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", list(range(10))),
        ("first:3", [0, 1, 2]),
        ("end:3", [7, 8, 9]),
        ("first:25%", [0, 1, 2]),
        ("end: 20 %", [8, 9]),
        ("first:100%", list(range(10))),
        ("first:99", list(range(10))),
        ("end:99", list(range(10))),
        ("first:0.1%", [0]),
    ],
)
def test_pick(text: str, expected: list[int]) -> None:
    assert list(Sampling.parse(text).pick(10, stream(0))) == expected


def test_random_is_a_draw_without_repeats_in_the_order_of_the_file() -> None:
    picked = Sampling.parse("random:30%").pick(100, stream(1))
    assert len(set(picked)) == 30
    assert picked == sorted(picked)
    assert picked == Sampling.parse("random:30%").pick(100, stream(1))
    assert picked != Sampling.parse("random:30%").pick(100, stream(2))


@pytest.mark.parametrize(
    "text", ["", "some", "first", "first:", "first:0", "first:-1", "first:101%", "end:1.5", "random:x", "first:1e3"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="N"):
        Sampling.parse(text)
