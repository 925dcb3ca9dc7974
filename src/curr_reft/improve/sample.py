"""N answers to each query from the published curr_rl model. A domain's queries come from a pool of open questions."""

from collections.abc import Mapping, Sequence

from curr_reft.errors import DataError
from curr_reft.improve.config import PoolConfig, SelfImprovementConfig
from curr_reft.improve.records import Candidate
from curr_reft.policy.answers import Answered, answer_all
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.seeding import derive_seed, stream


def draw_queries(questions: Sequence[Question], pools: Mapping[str, PoolConfig], seed: int) -> list[Question]:
    """``pools[domain].queries`` open questions of each domain. Raises DataError when a pool holds fewer."""
    drawn: list[Question] = []
    for domain, pool in pools.items():
        own = [question for question in questions if question.domain == domain]
        if len(own) < pool.queries:
            known = sorted({question.domain for question in questions})
            raise DataError(
                f"self_improvement.pools.{domain}",
                f"asks for {pool.queries} queries, but the data holds {len(own)} of this domain (domains there are: "
                f"{', '.join(known)}); lower queries or add rows to the pool",
            )
        drawn += stream(seed, "queries", domain).sample(own, pool.queries)
    return drawn


def sample_candidates(
    policy: Policy,
    queries: Sequence[Question],
    config: SelfImprovementConfig,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    seed: int,
) -> list[Candidate]:
    """``config.samples`` answers to each query, graded; equal answers to one query count once."""
    drawn = sampling.model_copy(update={"group_size": config.samples, "temperature": config.temperature})
    candidates = []
    for group in answer_all(policy, queries, drawn, rewards, seed=derive_seed(seed, "candidates")):
        first: dict[str, tuple[int, Answered]] = {}
        for number, answered in enumerate(group):
            first.setdefault(answered.completion, (number, answered))
        candidates += [
            Candidate(
                question=answered.question,
                sample=number,
                completion=answered.completion,
                truncated=answered.truncated,
                grade=answered.grade,
            )
            for number, answered in first.values()
        ]
    return candidates
