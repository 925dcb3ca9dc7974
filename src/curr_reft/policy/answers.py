"""A model's answers to questions, sampled or greedy, with their grades: what evaluation and self-improvement ask."""

from collections.abc import Sequence
from dataclasses import dataclass

from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Grade
from curr_reft.rewards.grading import grade_all
from curr_reft.seeding import derive_seed

CHUNK = 256  # questions whose prompts are held in memory at a time


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One question, its completion, and what it is worth."""

    question: Question
    completion: str
    truncated: bool
    grade: Grade

    @property
    def correct(self) -> float:
        """1 if right by the strict rule (IoU > 0.5, the same set, verified), else 0; 0 too where grading failed."""
        return float(bool(self.grade.correct))

    @property
    def score(self) -> float:
        """The grade's accuracy (of greedy answers: IoU, Jaccard, verified); 0 where grading failed (see its status)."""
        return self.grade.accuracy or 0.0


def answer_all(
    policy: Policy,
    questions: Sequence[Question],
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    seed: int | Sequence[Sequence[int]] = 0,
) -> list[list[Answered]]:
    """``sampling.group_size`` answers to each question, in order; ``seed`` is one for all, or one for each answer."""
    answered: list[list[Answered]] = []
    for start in range(0, len(questions), CHUNK):
        part = questions[start : start + CHUNK]
        prompts = [policy.processor.encode_question(question) for question in part]
        seeds = derive_seed(seed, start) if isinstance(seed, int) else seed[start : start + CHUNK]
        groups = rollout(policy, prompts, sampling, seed=seeds)
        rows = [(q, c.text, c.truncated) for q, g in zip(part, groups, strict=True) for c in g.completions]
        grades = iter(grade_all(rows, rewards))
        answered += [
            [Answered(question=q, completion=c.text, truncated=c.truncated, grade=next(grades)) for c in g.completions]
            for q, g in zip(part, groups, strict=True)
        ]
    return answered


def answer_greedily(
    policy: Policy, questions: Sequence[Question], sampling: SamplingConfig, rewards: RewardsConfig
) -> list[Answered]:
    """One greedy answer to each question, scored by the soft measures of evaluation (IoU, F1, Jaccard)."""
    greedy = sampling.model_copy(update={"group_size": 1, "temperature": 0.0})
    return [group[0] for group in answer_all(policy, questions, greedy, rewards.for_evaluation())]
