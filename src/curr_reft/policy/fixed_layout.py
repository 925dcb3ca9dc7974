"""Attention of a decode step of fixed shape over buffers that stay where they are: what a recorded step computes.

The same sums as ``DecodeLayout``, but everything that changes between steps (which step it is, which keys a row sees)
stands in tensors, so that one recorded sequence of operations serves every step, and every rollout after it. Rows fill
a rectangle of N groups x W rows completely: a place without a row computes with the rest and is thrown away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch

from curr_reft.policy.buckets import Bucket

Keys = Mapping[int, tuple[torch.Tensor, torch.Tensor]]  # layer -> keys, values


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """What the keys and values of a model look like, and its logits."""

    layers: tuple[int, ...]
    heads: int  # K
    size: int  # D
    vocabulary: int  # V
    dtype: torch.dtype

    def numbers(self, bucket: Bucket) -> tuple[int, int]:
        """Of the keys of one layer: those of the prompts, those of the completions."""
        each = self.heads * self.size
        return bucket.groups * bucket.prefix * each, bucket.rows * bucket.suffix * each

    def bytes(self, bucket: Bucket) -> int:
        """Of all layers, keys and values, and of the logits."""
        keys = 2 * len(self.layers) * sum(self.numbers(bucket))
        return (keys + bucket.rows * self.vocabulary) * self.dtype.itemsize


class Buffers:
    """Memory for the largest bucket that was asked for. Every smaller one uses the beginning of the same memory."""

    def __init__(self, shape: CacheShape, most: Bucket, device: torch.device) -> None:
        self.shape = shape
        self.room = prefix, suffix = shape.numbers(most)

        def zeros(count: int) -> torch.Tensor:
            return torch.zeros(count, dtype=shape.dtype, device=device)

        self._prefix = {layer: (zeros(prefix), zeros(prefix)) for layer in shape.layers}
        self._suffix = {layer: (zeros(suffix), zeros(suffix)) for layer in shape.layers}
        self._mask = zeros(most.groups * most.prefix)
        self._logits = zeros(most.rows * shape.vocabulary)
        self._tokens = torch.zeros(most.rows, dtype=torch.int64, device=device)
        self._positions = torch.zeros(most.rows, dtype=torch.int64, device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)

    def has_room(self, shape: CacheShape, bucket: Bucket) -> bool:
        """Whether ``bucket`` fits without moving anything."""
        enough = all(need <= room for need, room in zip(shape.numbers(bucket), self.room, strict=True))
        small = bucket.rows <= len(self._tokens) and bucket.groups * bucket.prefix <= len(self._mask)
        return shape == self.shape and enough and small

    def clear(self) -> None:
        """Forgets what completions wrote: a masked key must be a number, or its weight of 0 would not hide it."""
        for pair in self._suffix.values():
            for states in pair:
                states.zero_()

    def view(self, bucket: Bucket) -> "FixedLayout":
        """The layout of a step of this shape."""
        K, D = self.shape.heads, self.shape.size
        prefix, suffix = (bucket.groups, K, bucket.prefix, D), (bucket.groups, K, bucket.width, bucket.suffix, D)
        return FixedLayout(
            bucket=bucket,
            prefix={layer: (_front(k, prefix), _front(v, prefix)) for layer, (k, v) in self._prefix.items()},
            suffix={layer: (_front(k, suffix), _front(v, suffix)) for layer, (k, v) in self._suffix.items()},
            prefix_mask=_front(self._mask, (bucket.groups, bucket.prefix)),
            tokens_A=self._tokens[: bucket.rows],
            positions_A=self._positions[: bucket.rows],
            step=self.step,
            logits_AV=_front(self._logits, (bucket.rows, self.shape.vocabulary)),
        )


def _front(memory: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return memory[: prod(shape)].view(shape)


@dataclass(frozen=True, kw_only=True)
class FixedLayout:
    """A decode step of fixed shape (R query heads a key head). All tensors are views of ``Buffers``."""

    bucket: Bucket
    prefix: Keys  # (N, K, P, D)
    suffix: Keys  # (N, K, W, T, D)
    prefix_mask: torch.Tensor  # (N, P): 0, or -inf where a prompt is shorter
    tokens_A: torch.Tensor  # int64: the input of the step
    positions_A: torch.Tensor  # int64: rotary position of the first sampled token of each row
    step: torch.Tensor  # int64 (1): number of the step, the place where keys and values are written
    logits_AV: torch.Tensor  # the outcome, until the next step of any shape

    def masked(self) -> "MaskedStep":
        """The layout for the layers of one step, which mask the same keys."""
        to_come_T = torch.arange(self.bucket.suffix, device=self.step.device) > self.step
        own_T = torch.zeros_like(to_come_T, dtype=self.prefix_mask.dtype).masked_fill_(to_come_T, -torch.inf)
        mask_NS = torch.cat((self.prefix_mask, own_T.expand(len(self.prefix_mask), -1)), dim=1)
        return MaskedStep(layout=self, mask_NS=mask_NS)

    def take_prompts(self, keys: Keys, groups: Sequence[int], lengths_N: torch.Tensor) -> None:
        """Copies the prompts numbered ``groups`` out of ``keys`` (of any length up to this bucket's); may overlap."""
        device = self.step.device
        index = torch.tensor(groups, device=device)
        for layer, pair in self.prefix.items():
            for mine, theirs in zip(pair, keys[layer], strict=True):
                length = min(mine.shape[2], theirs.shape[2])
                taken = theirs.index_select(0, index)  # a copy: what is read may lie where it is to be written
                mine[:, :, :length] = taken[:, :, :length]
                mine[:, :, length:] = 0
        lengths = lengths_N.to(device).index_select(0, index)
        beyond = torch.arange(self.bucket.prefix, device=device) >= lengths[:, None]
        self.prefix_mask.zero_().masked_fill_(beyond, -torch.inf)

    def take_rows(self, other: "FixedLayout", sources_A: torch.Tensor, written: int) -> None:
        """Copies the first ``written`` tokens of the rows at these places of ``other``; may overlap."""
        for layer, pair in self.suffix.items():
            for mine, theirs in zip(pair, other.suffix[layer], strict=True):
                N, K, W, _, D = mine.shape
                rows = theirs[:, :, :, :written].transpose(1, 2).flatten(0, 1).index_select(0, sources_A)
                mine[:, :, :, :written] = rows.view(N, W, K, written, D).transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class MaskedStep:
    """One step of a layout. Every operation here is a kernel of some microseconds in every layer: all scores of a group
    stand side by side, as they come out of the products, and nothing is put in another order between them."""

    layout: FixedLayout
    mask_NS: torch.Tensor  # S = P + T keys: 0, or -inf where a row of the group sees none

    def attend_rows(
        self, layer: int, query_AHD: torch.Tensor, key_AKD: torch.Tensor, value_AKD: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """One token a row -> (A, H, D)."""
        prefix_k, prefix_v = self.layout.prefix[layer]
        suffix_k, suffix_v = self.layout.suffix[layer]
        N, K, P, D = prefix_k.shape
        W, T = suffix_k.shape[2:4]
        A, H = query_AHD.shape[:2]
        R = H // K
        for states, new_AKD in ((suffix_k, key_AKD), (suffix_v, value_AKD)):
            states.index_copy_(3, self.layout.step, new_AKD.view(N, W, K, 1, D).transpose(1, 2))
        query = query_AHD.view(N, W, K, R, D).transpose(1, 2).reshape(N * K, W * R, D)
        scores_prefix = query @ prefix_k.flatten(0, 1).transpose(1, 2)
        scores_own = query.view(N * K * W, R, D) @ suffix_k.flatten(0, 2).transpose(1, 2)
        scores = torch.cat((scores_prefix.view(N, K * W * R, P), scores_own.view(N, K * W * R, T)), dim=-1)
        weights = torch.add(self.mask_NS[:, None], scores, alpha=scale).softmax(-1)
        seen = weights.view(N * K, W * R, P + T)[..., :P] @ prefix_v.flatten(0, 1)
        own = weights.view(N * K * W, R, P + T)[..., P:]
        seen = torch.baddbmm(seen.view(N * K * W, R, D), own, suffix_v.flatten(0, 2))
        return seen.view(N, K, W, R, D).transpose(1, 2).reshape(A, H, D)
