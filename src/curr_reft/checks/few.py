"""Splits that are too small to decide anything by. A run does not refuse them: small sets are how people begin."""

import math
from collections.abc import Iterator, Mapping

FEW = 50  # items: a rate of one half is then known to 14 points to either side, at 95 %
DECIDE = {
    "validation": ("checkpoints and gates are chosen by it", "data.files.validation_fraction"),
    "test": ("no smaller difference can be seen", "data.files.test_fraction, or data.files.test"),
    "ood_test": ("no smaller difference can be seen", "data.files.ood_test"),
}
"""Split -> what it decides, and the key that sets its size for rows of one's own."""


def few_items(splits: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Iterator[str]:
    """A sentence for each split with fewer than ``FEW`` items. ``splits`` is that part of the data card."""
    for split, (decides, key) in DECIDE.items():
        count = sum(splits.get(split, {}).get("items", {}).values())
        if 0 < count < FEW:
            # Of a rate of one half, by the normal approximation; with a handful of items it is the whole scale.
            points = min(50, round(100 * 1.96 * math.sqrt(0.25 / count)))
            items = "1 item" if count == 1 else f"{count} items"
            yield f"{split} has {items}, {points} points either way at a rate of one half; {decides} ({key})"
