"""Splits too small to decide by are said, those that are large enough are not."""

import pytest

from curr_reft.checks.few import FEW, few_items


def splits(**items: int) -> dict[str, dict[str, dict[str, int]]]:
    return {split: {"items": {"math": count // 2, "detection": count - count // 2}} for split, count in items.items()}


def test_small_splits_are_named_with_what_they_cannot_tell() -> None:
    validation, test = few_items(splits(train=9, validation=1, test=FEW - 1, ood_test=FEW, general=2))
    assert validation.startswith("validation has 1 item, 50 points either way")
    assert "checkpoints and gates" in validation
    assert test.startswith("test has 49 items, 14 points either way")
    assert "data.files.test_fraction" in test


@pytest.mark.parametrize("counts", [{}, {"train": 3}, {"validation": 0, "test": 1000}])
def test_nothing_is_said_of_others(counts: dict[str, int]) -> None:
    assert not list(few_items(splits(**counts)))
