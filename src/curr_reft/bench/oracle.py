"""Whether our step and TRL's are the same step: training on the same tokens has to end with the same weights.

Completions are given to both instead of sampled, ragged and ended, so that nothing random is left. Ours go through the
real objective, packed rows, loop and optimizer, in more than one micro-batch; TRL's through its own trainer.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from trl import GRPOTrainer

from curr_reft.bench import peer
from curr_reft.bench.ours import SubjectObjective, SubjectSampler
from curr_reft.bench.shape import Shape
from curr_reft.bench.subject import VOCABULARY, build_model, build_processor, suppressed_ids
from curr_reft.bench.work import PROMPTS, Options
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.policy import wrap_model
from curr_reft.policy.types import Completion, Group
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.custom import Logged
from curr_reft.train.config import CheckpointConfig, ObjectiveConfig, OptimizerConfig, RlConfig
from curr_reft.train.loop import Journal, Plan, Validation, train_loop
from curr_reft.train.objective import StepBatch

# Three steps of AdamW move a weight by up to 1.5e-5: 15 times what is allowed to differ. The largest difference is of a
# weight whose gradient is hardly more than rounding: AdamW divides it by its own size.
LR = 5e-6
TOLERANCE = 1e-6
RELATIVE = 1e-3

TRL_OF: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "dapo": {"loss_type": "dapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
}
"""Our names of the losses in the words of GRPOConfig."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of all weights after the steps."""

    difference: float  # the largest, between ours and TRL's
    moved: float  # the largest, between TRL's and the start: what a difference has to be small against
    relative: float  # length of the vector of all differences, over that of all moves


def tokens_of(shape: Shape, step: int) -> list[list[int]]:
    """The given completions of a step's rows: 2 to C tokens, the last one the end token."""
    drawn = np.random.default_rng((3, step))
    lengths = drawn.integers(1, shape.C, PROMPTS * shape.G)
    end = build_processor().tokenizer.eos_token_id
    first = max(suppressed_ids()) + 1
    return [[*drawn.integers(first, VOCABULARY, length).tolist(), end] for length in lengths]


def agreement(loss: str, shape: Shape, *, theirs_loss: str | None = None, steps: int = 3) -> Agreement:
    """Trains both from the same weights on the same tokens (``theirs_loss``: TRL by another loss, to see it differ)."""
    start, theirs, ours = build_model(), build_model(), build_model()
    with tempfile.TemporaryDirectory() as folder:
        _train_theirs(theirs, theirs_loss or loss, shape, steps, Path(folder, "theirs"))
        _train_ours(ours, loss, shape, steps, Path(folder, "ours"))
    return Agreement(
        difference=largest_difference(theirs, ours),
        moved=largest_difference(theirs, start),
        relative=_distance(theirs, ours) / _distance(theirs, start),
    )


def largest_difference(one: torch.nn.Module, other: torch.nn.Module) -> float:
    """Over all parameters, which have the same names."""
    others = dict(other.named_parameters())
    return max(float((each - others[name]).detach().abs().max()) for name, each in one.named_parameters())


def _distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    squares = [
        (a - b).detach().double().square().sum() for a, b in zip(one.parameters(), other.parameters(), strict=True)
    ]
    return float(torch.stack(squares).sum().sqrt())


class GivenTokensTrainer(GRPOTrainer):
    """TRL's trainer on given completions."""

    shape: Shape

    def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        return tokens_of(self.shape, self.state.global_step), None


class GivenTokensObjective(SubjectObjective):
    """Our objective on the same."""

    shape: Shape

    def prepare(self, step: int) -> StepBatch:
        questions = self.sampler.draw(step)
        prompts = [self.policy.processor.encode_question(question) for question in questions]
        tokens, G = tokens_of(self.shape, step - 1), self.shape.G
        groups = [
            Group(prompt=prompt, completions=_completions(tokens[place * G : (place + 1) * G]))
            for place, prompt in enumerate(prompts)
        ]
        batches = self.pack(self.grade(questions, groups, step, Logged(count=len(tokens))))
        assert len(batches) == PROMPTS
        return StepBatch(micro_batches=batches, metrics={}, seconds={}, tokens=sum(map(len, tokens)))


def _completions(tokens: Sequence[Sequence[int]]) -> tuple[Completion, ...]:
    return tuple(
        Completion(tokens_T=torch.tensor(each), logprobs_T=torch.zeros(len(each)), text="", truncated=False)
        for each in tokens
    )


def _train_theirs(model: Any, loss: str, shape: Shape, steps: int, folder: Path) -> None:
    trainer: Any = peer.build_trainer(
        GivenTokensTrainer,
        model,
        build_processor(),
        shape,
        steps,
        Options(),
        folder,
        learning_rate=LR,
        **TRL_OF[loss],
    )
    trainer.shape = shape
    trainer.train()


def _train_ours(model: Any, loss: str, shape: Shape, steps: int, folder: Path) -> None:
    policy = wrap_model(model, build_processor(), ModelConfig(device="cpu"))
    policy.token_bias_V.zero_()  # TRL scores over the whole vocabulary
    objective = GivenTokensObjective(
        policy,
        SubjectSampler(shape=shape),
        RlConfig(
            prompts_per_step=PROMPTS,
            micro_batch_tokens=64,
            objective=ObjectiveConfig.model_validate({"loss": loss, "beta": 0.0}),
        ),
        SamplingConfig(group_size=shape.G, max_new_tokens=shape.C),
        RewardsConfig(),
        seed=0,
        budget=steps,
        reference=None,
    )
    objective.shape = shape
    plan = Plan(
        folder=folder,
        budget=steps,
        optimizer=OptimizerConfig(lr=LR, schedule="constant"),
        checkpoint=CheckpointConfig(every=steps, hand_on="last"),
        seed=0,
        validate=lambda _: Validation(accuracy=0.0, score=0.0),
        journal=Journal(log=lambda _: None, rewind=lambda *_: None, sync=lambda: None),
    )
    train_loop(policy, objective, plan)
