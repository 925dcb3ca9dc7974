"""Judged: queries of self-improvement that have no truth, or one that no grader can compare (free text). A judge alone
says whether an answer is kept; nothing is trained by reward on them, and no test asks them.

Raises NoTruthError where a score is asked for: that is a state of grading (``no_truth``), not a zero.
"""

import random
from typing import Any, NoReturn

from curr_reft.data.item import Item, Truth
from curr_reft.data.styles import JUDGED
from curr_reft.tasks.base import Pool, TaskDefaults, TaskOptions
from curr_reft.tasks.status import NoTruthError


class Judged(TaskDefaults):
    """Any text that is not empty is an answer."""

    name = JUDGED
    absent = "a query without a truth has no claims"

    def read_truth(self, raw: Any) -> str:
        """Nothing: what a row gives as its answer is not compared with."""
        return ""

    def parse(self, answer: str) -> str | None:
        return answer.strip() or None

    def score(self, parsed: Any, truth: Truth, options: TaskOptions) -> NoReturn:
        raise NoTruthError("a query of the task judged has no truth")

    def correct(self, parsed: Any, truth: Truth, options: TaskOptions) -> NoReturn:
        raise NoTruthError("a query of the task judged has no truth")

    def write(self, truth: Truth) -> str:
        return str(truth)

    def claim(self, truth: Truth) -> str:
        return str(truth)

    def option(self, truth: Truth) -> str:
        return str(truth)

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        return []
