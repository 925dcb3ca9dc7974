"""Validation of supervised fine-tuning: the accuracy that chooses the checkpoint, and beside it what is only looked at:
the loss on held-out examples, and the general pool, where forgetting is seen first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curr_reft.evaluate.general import answer_cells
from curr_reft.evaluate.suites import validate
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.train.loop import Validation
from curr_reft.train.sft import SftExample, mean_loss

GENERAL_ITEMS = 50  # of each cell: a look, not a measurement; evaluation asks all of them


@dataclass(frozen=True, kw_only=True)
class SftValidation(Validation):
    """What no checkpoint is chosen by stands beside what they are."""

    loss: float | None  # mean cross-entropy a token of the held-out examples; None without any
    general: Mapping[str, float]  # accuracy by cell of the general pool


def validate_sft(
    policy: Policy,
    *,
    questions: Sequence[Question],
    held_out: Sequence[SftExample],
    cells: Mapping[str, Sequence[Question]],
    sampling: SamplingConfig,
    rewards: RewardsConfig,
) -> SftValidation:
    """Greedy answers to validation questions and to the first of the general pool, and the held-out loss."""
    found = validate(policy, questions, sampling, rewards)
    answers = answer_cells(policy, {name: asked[:GENERAL_ITEMS] for name, asked in cells.items()}, sampling, rewards)
    return SftValidation(
        accuracy=found.accuracy,
        score=found.score,
        tasks=found.tasks,
        loss=mean_loss(policy, held_out) if held_out else None,
        general={name: sum(row.correct for row in rows) / len(rows) for name, rows in answers.items()},
    )
