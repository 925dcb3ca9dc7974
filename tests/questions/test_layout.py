"""Layouts are dealt evenly over any run of drafts, and each group for itself."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from curr_reft.questions.layout import Layouts


def deal(layouts: Layouts, group: str, count: int, ways: int) -> list[int]:
    return [layouts.deal(split="train", task="math", form="choice", group=group, layouts=ways) for _ in range(count)]


@given(st.integers(0, 2**40), st.integers(1, 20), st.integers(0, 200))
def test_every_prefix_is_balanced_to_within_one(seed: int, ways: int, count: int) -> None:
    dealt = deal(Layouts(seed), "1", count, ways)
    counts = [Counter(dealt)[way] for way in range(ways)]
    assert sum(counts) == count
    assert max(counts) - min(counts) <= 1


def test_groups_do_not_disturb_each_other_and_seeds_differ() -> None:
    layouts = Layouts(0)
    alone = deal(Layouts(0), "1", 60, 4)
    mixed = []
    for _ in range(60):
        mixed += deal(layouts, "1", 1, 4)
        deal(layouts, "2", 3, 4)
    assert mixed == alone
    assert deal(Layouts(1), "1", 60, 4) != alone
    assert alone[:4] != alone[4:8] or alone[4:8] != alone[8:12], "blocks have orders of their own"
