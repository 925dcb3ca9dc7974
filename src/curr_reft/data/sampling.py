"""Which rows of a file are used: ``all``, ``first:N``, ``end:N`` or ``random:N``, N a count or a percentage."""

import math
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_PATTERN = re.compile(r"(?P<kind>first|end|random):(?P<amount>\d{1,12}(?:\.\d{1,6})?)(?P<percent>%?)")


@dataclass(frozen=True)
class Sampling:
    """A parsed sampling strategy."""

    kind: str  # all, first, end, random
    amount: float = 100.0
    percent: bool = True

    @classmethod
    def parse(cls, text: str) -> "Sampling":
        """Raises ValueError with the rule."""
        if text == "all":
            return cls("all")
        match = _PATTERN.fullmatch(text.replace(" ", ""))
        if match is None:
            raise ValueError(f"{text!r} is no sampling; use all, first:N, end:N or random:N, N a count or a percentage")
        amount, percent = float(match["amount"]), bool(match["percent"])
        if amount <= 0 or (percent and amount > 100) or (not percent and amount != int(amount)):
            raise ValueError(f"{text!r}: N must be a whole number above 0, or a percentage above 0 % and up to 100 %")
        return cls(match["kind"], amount, percent)

    @property
    def leading(self) -> int | None:
        """How many rows are taken from the start, if that is known before they were counted; None if it is not."""
        if self.kind == "all":
            return sys.maxsize
        return int(self.amount) if self.kind == "first" and not self.percent else None

    def count(self, rows: int) -> int:
        """How many of ``rows`` are taken: a percentage is rounded up, and no more than there are."""
        return min(rows, math.ceil(rows * self.amount / 100) if self.percent else int(self.amount))

    def pick(self, rows: int, rng: random.Random) -> Sequence[int]:
        """Indices of the rows taken, in the order of the file."""
        count = self.count(rows)
        if self.kind == "random":
            return sorted(rng.sample(range(rows), count))
        return range(rows - count, rows) if self.kind == "end" else range(count)
