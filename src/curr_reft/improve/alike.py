"""When two answers say the same: what sampling removes within a query, and selection limits across queries.

Two answers are near-duplicates when their answer blocks are equal but for case and white space, and their runs of three
words overlap by at least ``SHARE`` (Jaccard; punctuation and case do not count). So answers that differ in what they
answer, by a sign or a digit, are never near-duplicates, however alike their reasoning is.
"""

import re
from dataclasses import dataclass

from curr_reft.rewards.format import answer_block

RUN = 3  # words in a row
SHARE = 0.9
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Likeness:
    """What of an answer is compared."""

    answer: str | None  # None without a single answer block
    runs: frozenset[tuple[str, ...]]
    words: int

    @classmethod
    def of(cls, completion: str) -> "Likeness":
        answer = answer_block(completion)
        words = _WORD.findall(completion.casefold())
        runs = {tuple(words[start : start + RUN]) for start in range(max(1, len(words) - RUN + 1))}
        same_case = None if answer is None else " ".join(answer.split()).casefold()
        return cls(answer=same_case, runs=frozenset(runs), words=len(words))

    def same_as(self, other: "Likeness") -> bool:
        """Whether the two are near-duplicates."""
        if self.answer != other.answer:
            return False
        small, large = sorted((len(self.runs), len(other.runs)))
        if small < SHARE * large:  # the overlap cannot reach the share: most pairs end here
            return False
        return len(self.runs & other.runs) >= SHARE * len(self.runs | other.runs)
