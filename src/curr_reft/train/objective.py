"""What the loop trains on: an objective turns a step number into micro-batches and a micro-batch into a loss.

The loss of a step is a weighted sum over tokens, and the weights are fixed when the step is prepared. So it does not
matter how the step is cut into micro-batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from curr_reft import processes
from curr_reft.policy.packing import PackedBatch
from curr_reft.policy.policy import Policy
from curr_reft.train.token_budget import TokenBudget


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """One forward. S scored tokens, ordered by group, completion, token."""

    packed: PackedBatch
    weights_S: torch.Tensor  # float32: share of a token in the loss of the step
    advantages_S: torch.Tensor | None = None  # float32; None in supervised training
    old_logprobs_S: torch.Tensor | None = None  # float32, of the policy that sampled; None: on-policy
    reference_logprobs_S: torch.Tensor | None = None  # float32; None: no KL penalty
    completion_S: torch.Tensor | None = None  # int64: number of the token's completion, for sequence-level ratios


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """All a step trains on, with what is known before the update. No micro-batches: nothing to learn in this step."""

    micro_batches: tuple[MicroBatch, ...]  # of the groups of this process; all else is known in every process
    metrics: Mapping[str, Any]
    seconds: Mapping[str, float]
    tokens: int  # completion tokens of the step
    records: tuple[Mapping[str, Any], ...] = field(default=())  # rows for the rollout files


def idle_calls(policy: Policy, own: int) -> int:
    """How many forward calls this process has to add to its ``own`` micro-batches: with sharded weights, every call
    waits for the others. All processes must ask."""
    return max(processes.gather(own)) - own if policy.sharding is not None else 0


class Objective(Protocol):
    """GRPO and SFT are objectives. State is what a resumed run needs to draw the same steps."""

    updates_per_batch: int
    tokens: TokenBudget  # of its micro-batches; lowered where memory runs out

    def prepare(self, step: int) -> StepBatch:
        """The data of update ``step`` (1-based). Must be a function of the policy, the state and ``step`` alone."""
        ...

    def loss(self, micro_batch: MicroBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(the micro-batch's part of the loss, its part of metrics that add up over micro-batches). It waits for no
        number of the device."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
