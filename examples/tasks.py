"""A task of one's own. A recipe names it as ``tasks.py:ClockTime`` (see docs/extending.md)."""

import random
import re
from collections.abc import Sequence

from curr_reft.tasks.simple import SimpleTask

_TIME = re.compile(r"(\d{1,2}):(\d{2})")


class ClockTime(SimpleTask):
    """What time does the clock show? Right to the minute is 1, within five minutes is half."""

    name = "clock_time"

    def parse(self, text: str) -> int | None:
        """Minutes after twelve. The whole answer must be one time: a time inside a sentence is none."""
        found = _TIME.fullmatch(text.strip())
        if found is None or not (1 <= int(found[1]) <= 12 and int(found[2]) < 60):
            return None
        return int(found[1]) % 12 * 60 + int(found[2])

    def score(self, answer: int, truth: int) -> float:
        apart = min((answer - truth) % 720, (truth - answer) % 720)
        return 1.0 if apart == 0 else 0.4 if apart <= 5 else 0.0

    def false_claim(self, truth: int, rng: random.Random) -> str:
        # Mistakes people make: the hands swapped, an hour off, the minute hand misread.
        swapped = truth % 60 // 5 * 60 + truth // 60 * 5
        return _written(rng.choice([swapped, truth + 60, truth - 60, truth + 15, truth - 15]))

    def distractors(self, truth: int, rng: random.Random, n: int) -> Sequence[str]:
        return [self.false_claim(truth, rng) for _ in range(n)]


def _written(minutes: int) -> str:
    minutes %= 720
    return f"{minutes // 60 or 12}:{minutes % 60:02d}"
