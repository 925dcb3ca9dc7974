"""Who scores the answers. A judge takes candidates and gives each a verdict or says why there is none."""

from collections.abc import Callable, Sequence
from typing import Protocol

from curr_reft.errors import JudgeError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.records import CRITERIA, Candidate, Verdict
from curr_reft.improve.rules import RulesJudge


class Judge(Protocol):
    """Scores on the four criteria of the paper, 0 to 100, and a total."""

    name: str

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        """One verdict for each candidate, in order."""
        ...


JUDGES: dict[str, Callable[[], Judge]] = {"rules": RulesJudge}
"""A new judge is one file and one line here."""


def judge_all(config: JudgeConfig, candidates: Sequence[Candidate]) -> list[Verdict]:
    """The verdicts of the recipe's judge. Raises JudgeError when it breaks its contract."""
    judge = JUDGES[config.kind]()
    verdicts = judge.judge(candidates)
    if [verdict.candidate_id for verdict in verdicts] != [candidate.id for candidate in candidates]:
        raise JudgeError(f"judge {judge.name} did not return one verdict for each candidate, in order")
    for verdict in verdicts:
        _check(judge.name, verdict)
    return verdicts


def _check(name: str, verdict: Verdict) -> None:
    if verdict.failure is not None:
        return
    numbers = {**verdict.scores, "total": verdict.total}
    off = [key for key, value in numbers.items() if value is None or not 0 <= value <= 100]
    if off or set(verdict.scores) != set(CRITERIA):
        raise JudgeError(f"judge {name} scored {verdict.candidate_id} off the scale 0 to 100: {numbers}")
