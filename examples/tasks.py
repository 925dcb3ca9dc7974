"""A task of one's own. A recipe names it as ``tasks.py:RoughCount`` (see docs/extending.md)."""

import random
import re
from collections.abc import Sequence

from curr_reft.tasks.simple import SimpleTask

_COUNT = re.compile(r"(?:about |around |~ ?)?(\d{1,6})")


class RoughCount(SimpleTask):
    """How many people are in the crowd? The true count is 1, a count within a tenth of it 0.4."""

    name = "rough_count"
    wrong_below = 0.1  # a near miss, which earns 0.4, is no honest wrong answer

    def parse(self, text: str) -> int | None:
        """The whole answer must be one count: "3 or 4" and a number inside a sentence are none."""
        found = _COUNT.fullmatch(text.strip().rstrip(".").lower())
        return int(found[1]) if found else None

    def score(self, answer: int, truth: int) -> float:
        if answer == truth:
            return 1.0
        return 0.4 if abs(answer - truth) <= truth / 10 else 0.0

    def false_claim(self, truth: int, rng: random.Random) -> str:
        off = max(1, round(truth * rng.uniform(0.2, 1.0)))
        return str(max(0, truth + rng.choice([off, -off])))

    def distractors(self, truth: int, rng: random.Random, n: int) -> Sequence[str]:
        # Those that are too near to the truth or to each other are left out, and this is asked again.
        return [self.false_claim(truth, rng) for _ in range(n)]
