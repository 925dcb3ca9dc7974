"""Queries, answers and verdicts for tests of phase 2."""

from typing import Any

from curr_reft.improve.config import PoolConfig, SelfImprovementConfig
from curr_reft.improve.records import CRITERIA, Candidate, Verdict
from curr_reft.questions.question import Question
from curr_reft.rewards.grading import grade
from curr_reft.train.config import SftConfig


def question(name: str, task: str = "math", truth: Any = "5", domain: str = "") -> Question:
    return Question(
        id=f"{name}/open", origin=name, task=task, form="open", prompt="how many", truth=truth, domain=domain or task
    )


def candidate(asked: Question, completion: str, sample: int = 0, truncated: bool = False) -> Candidate:
    graded = grade(asked, completion, truncated)
    return Candidate(question=asked, sample=sample, completion=completion, truncated=truncated, grade=graded)


def verdict(of: Candidate, total: float | None) -> Verdict:
    if total is None:
        return Verdict(candidate_id=of.id, scores={}, total=None, failure="the judge is ill")
    return Verdict(candidate_id=of.id, scores=dict.fromkeys(CRITERIA, total), total=total)


def config(threshold: float = 85.0, **pools: tuple[int, int]) -> SelfImprovementConfig:
    given = pools or {"math": (10, 10)}
    return SelfImprovementConfig(
        pools={name: PoolConfig(queries=queries, quota=quota) for name, (queries, quota) in given.items()},
        samples=4,
        threshold=threshold,
        sft=SftConfig(steps=1),
    )


RIGHT = "<think> i see 2 red and 3 blue so 5 </think> <answer> 5 </answer>"
LUCKY = "<think> i guess </think> <answer> 5 </answer>"
WRONG_GUESS = "<think> i guess </think> <answer> 4 </answer>"
CLAIMED = "<think> i see 2 red and 2 blue so 4 </think> <answer> 4 </answer>"
