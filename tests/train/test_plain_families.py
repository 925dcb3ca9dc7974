"""Models that cannot share prompts train on the plain path: a step of GRPO through the real loop."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tiny_models
import torch
from test_loop import Record, plan

from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import Policy, load_policy
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.train.grpo import GrpoObjective
from curr_reft.train.loop import Validation, train_loop
from curr_reft.train.objective import MicroBatch


def rewarded(policy: Policy, batches: Sequence[MicroBatch]) -> float:
    """What the step raises: log-probabilities times advantages."""
    with torch.no_grad():
        return sum(
            float((packed_logprobs(policy, batch.packed) * batch.advantages_S * batch.weights_S).sum())
            for batch in batches
        )


@pytest.mark.parametrize("model_type", sorted(set(tiny_models.CONFIGS) - set(tiny_models.EXACT)))
def test_a_step_on_the_plain_path(grpo: Callable[..., GrpoObjective], tmp_path: Path, model_type: str) -> None:
    """Bidirectional images and sliding windows (Gemma 3), recurrent layers (Qwen3.5)."""
    folder = tiny_models.build_folder(tmp_path / "model", model_type)
    policy = load_policy(ModelConfig(path=str(folder), packed=False))
    objective, record, better = grpo(policy), Record(), itertools.count()
    batches = objective.prepare(1).micro_batches
    assert any(group.prompt.pixel_inputs for batch in batches for group in batch.packed.groups)
    before = rewarded(policy, batches)

    def validate(policy: Policy) -> Validation:
        return Validation(accuracy=float(next(better)), score=0.0)  # the last weights are the ones that are kept

    train_loop(policy, objective, plan(tmp_path / "run", record, budget=1, validate=validate))
    row = next(row for row in record.rows if row["kind"] == "train")
    assert row["grad_norm"] > 1e-2
    assert rewarded(policy, batches) > before + 1e-3
