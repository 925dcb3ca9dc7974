"""What a judge is, and what it is given to work with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from curr_reft.improve.records import CRITERIA, Candidate, Verdict
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_policy
from curr_reft.policy.policy import Policy

RETRY = (
    "so are these failures, with their raw replies: correct the judge, and ask for them again with curr-reft judge "
    "SOURCE --retry-failed (SOURCE of a run: its directory; then the run with --resume)"
)


class Judge(Protocol):
    """Scores on the four criteria of the paper, 0 to 100, and a total."""

    name: str

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """One verdict for each candidate, in order. What cannot be judged is a failure that says why.

        Raises JudgeError when judging stops before its end (a wrong key, a budget used up): what was judged is kept.
        """
        ...

    def account(self) -> Mapping[str, Any]:
        """What judging took: requests, tokens, cost, failures by reason. Plain data."""
        ...


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where a judge works and how it is asked. Judges without a model need none of it."""

    cache: Path  # SQLite file of verdicts
    say: Callable[[str], None]  # takes a line on what is going on
    before: Sequence[Candidate] = ()  # answers of earlier rounds: what they have cost counts against the budget too
    spent: float = 0.0  # what other passes over the answers have cost, which counts too
    load: Callable[[ModelConfig], Policy] = load_policy  # of a judge in this process
    repeat: int = 0  # the same question is judged anew under another number
    order: tuple[str, ...] = CRITERIA  # of the criteria in the rubric
    retry_failed: bool = False  # ask again for what is in the cache as a failure


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Verdicts in the order of the candidates, and what they took."""

    verdicts: tuple[Verdict, ...]
    account: dict[str, Any]
