"""Decoding as it is computed where nothing is recorded: one step after the other on the rows that go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from curr_reft.policy.attention import no_mask
from curr_reft.policy.decode import DecodeLayout
from curr_reft.policy.lean import find_lean
from curr_reft.policy.logprobs import position_ids
from curr_reft.policy.policy import Policy

LEAVE_AT = 1 / 8
"""Ended rows are dropped once they are this share of the batch; dropping a few would cost more than carrying them."""


@dataclass(frozen=True, kw_only=True)
class Prefilled:
    """What prefill leaves for N prompts."""

    keys: Mapping[int, tuple[torch.Tensor, torch.Tensor]]  # layer -> keys, values (N, K, P, D)
    lengths_N: torch.Tensor  # int64
    first_N: torch.Tensor  # int64: rotary position of the first sampled token, the same on every axis


@dataclass(frozen=True, kw_only=True)
class Move:
    """A new batch out of the places of the one before."""

    sources: Sequence[int]  # the place that each new place copies
    spare: Sequence[bool]  # places that only fill the shape up: what is computed there is thrown away


class Advance:
    """One decode step after the other: the token of each place -> the logits (A, V) of its next one."""

    def __init__(self, policy: Policy, prefilled: Prefilled, group_size: int, tokens: int) -> None:
        self.policy = policy
        self.layout = DecodeLayout(prefilled.keys, prefilled.lengths_N, group_size, tokens)
        self.first_A = prefilled.first_N.repeat_interleave(group_size)
        self.mask = no_mask(policy.device)
        self.lean = find_lean(policy.core)
        if self.lean is not None:
            positions_AT = self.first_A[:, None] + torch.arange(tokens, device=policy.device)
            self.cos_ATD, self.sin_ATD = self.lean.rotations(positions_AT, policy.family.axes)

    def move(self, going: list[int]) -> Move | None:
        """The batch to go on with when only the places ``going`` have not ended; None: the one there is."""
        if len(going) > (1 - LEAVE_AT) * self.layout.rows:
            return None
        return Move(sources=going, spare=[False] * len(going))

    def keep(self, move: Move, index_A: torch.Tensor) -> None:
        """Goes on with ``move``; ``index_A`` are its sources as a tensor."""
        self.layout.keep(list(move.sources))
        self.first_A = self.first_A[index_A]
        if self.lean is not None:
            self.cos_ATD, self.sin_ATD = self.cos_ATD[index_A], self.sin_ATD[index_A]

    def __call__(self, tokens_A: torch.Tensor) -> torch.Tensor:
        step = self.layout.step
        logits_AV: torch.Tensor
        if self.lean is not None:
            rows = self.lean.step(tokens_A, self.layout, self.cos_ATD[:, step], self.sin_ATD[:, step])
            logits_AV = self.policy.core.get_output_embeddings()(rows)
        else:
            logits_AV = self.policy.model(
                input_ids=tokens_A[None],
                position_ids=position_ids((self.first_A + step).expand(self.policy.family.axes, -1)),
                attention_mask=self.mask,
                use_cache=False,
                group_layout=self.layout,
            ).logits[0]
        self.layout.step += 1
        return logits_AV
