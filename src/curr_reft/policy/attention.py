"""Attention in which the completions of a group share the keys and values of their prompt.

One function is registered with transformers under ``NAME``. A forward call that carries the keyword ``group_layout``
is computed by that layout; every other call (generation, the plain path) is ordinary SDPA with its ordinary masks. So
no model is patched, and the vision tower keeps its own attention. ``GroupLayout`` here is for training and prefill,
``DecodeLayout`` (``decode.py``) for one token at a time.

The idea for text is known (Prefix Grouper, arXiv 2506.05433); here rows are flat, so that no padding passes through the
linear layers, and positions may have three axes (M-RoPE).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from curr_reft.policy.varlen import Kernel, Segments, find_segments

NAME = "curr_reft_shared_prefix"


class Layout(Protocol):
    """Knows which tokens of a flat row see which."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """query (1, H, L, D), key and value (1, K, L, D), rotated -> (1, L, H, D)."""
        ...


def shared_prefix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    group_layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The registered function; the signature is transformers'."""
    if group_layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return group_layout.attend(module.layer_idx, query, key, value, scale), None  # type: ignore[arg-type]


AttentionInterface.register(NAME, shared_prefix_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def no_mask(device: torch.device) -> torch.Tensor:
    """Handed over as ``attention_mask`` beside a layout: transformers takes a 4-D mask as it is and builds none."""
    return torch.empty((1, 1, 1, 1), device=device)


class _Gather(torch.autograd.Function):
    """``rows[forward_index]`` whose backward is a gather too.

    Every row of the input stands exactly once in the output (at ``backward_index``), beside copies that pad. What
    flows back through the copies is nothing, so the sum that autograd would form (and, on a GPU, in no fixed order) is
    a lookup.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, forward_index: torch.Tensor, backward_index: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(backward_index)
        return rows.index_select(0, forward_index)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (backward_index,) = ctx.saved_tensors
        return gradients[0].index_select(0, backward_index), None, None


class _Ungather(torch.autograd.Function):
    """The inverse: drops the copies. Backward fills their places with zeros."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.length = rows.shape[0]
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        out = gradients[0].new_zeros((ctx.length, *gradients[0].shape[1:]))
        return out.index_copy_(0, index, gradients[0]), None


@dataclass(eq=False, kw_only=True)
class GroupLayout:
    """N prompts and the G completions of each, as one flat row of L tokens without padding.

    For attention alone the row is spread over a rectangle: N x P prompt places, then N x G x T completion places. With
    a kernel for sequences of different lengths it is not: see ``varlen.py``.
    """

    pad_index_M: torch.Tensor  # int64: the token in each of the N*P + N*G*T places (an empty place holds token 0)
    unpad_index_L: torch.Tensor  # int64: the place of each token
    prompt_lengths_N: torch.Tensor  # int64
    P: int  # longest prompt
    G: int  # largest group
    T: int  # most input tokens of a completion (0: prompts only)
    lengths: torch.Tensor  # int64 (N, 1 + G), on the CPU: tokens of each prompt and of its completions
    kernel: Kernel | None = None  # none: SDPA over the rectangle
    segments: Segments | None = None  # the same row as sequences, for the kernel
    store: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None  # prefill: layer -> keys, values (N, K, P, D)
    _masks: dict[tuple[int, torch.dtype], torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "GroupLayout":
        """The layout with its index tensors on ``device``."""
        indices = {
            name: getattr(self, name).to(device) for name in ("pad_index_M", "unpad_index_L", "prompt_lengths_N")
        }
        return replace(self, **indices, segments=self.segments and self.segments.to(device), _masks={})

    def using(self, kernel: Kernel | None) -> "GroupLayout":
        """The layout computed by ``kernel``."""
        if kernel is self.kernel:
            return self
        segments = find_segments(self.lengths).to(self.pad_index_M.device) if kernel is not None else None
        return replace(self, kernel=kernel, segments=segments, _masks={})

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        if self.kernel is not None and self.segments is not None:
            assert self.store is None, "keys of a prefill are kept as a rectangle"
            return self.segments.attend(self.kernel, query, key, value, scale)
        N, P, G, T = len(self.prompt_lengths_N), self.P, self.G, self.T
        _, H, L, D = query.shape
        K = key.shape[1]
        R = H // K  # query heads that share a key head

        def spread(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rows = states.transpose(1, 2).reshape(L, -1)
            places = _Gather.apply(rows, self.pad_index_M, self.unpad_index_L)
            prompts, completions = places.split((N * P, N * G * T))
            return prompts, completions

        query_p, query_c = spread(query)
        key_p, key_c = spread(key)
        value_p, value_c = spread(value)

        # A prompt sees itself. It is padded on the right, so causality alone hides the padding.
        keys_p, values_p = (states.view(N, P, K, D).transpose(1, 2) for states in (key_p, value_p))
        if self.store is not None:
            self.store[layer] = keys_p.contiguous(), values_p.contiguous()
        each_k, each_v = (states[:, :, None].expand(N, K, R, P, D).reshape(N, H, P, D) for states in (keys_p, values_p))
        out_p = F.scaled_dot_product_attention(
            query_p.view(N, P, H, D).transpose(1, 2), each_k, each_v, is_causal=True, scale=scale
        )
        out = out_p.transpose(1, 2).reshape(N * P, H * D)

        if T:  # A completion sees its prompt and itself; its R query heads a key head are folded into the rows.
            own_k, own_v = (states.view(N * G, T, K, D).transpose(1, 2) for states in (key_c, value_c))
            shared_k, shared_v = (
                states[:, None].expand(N, G, K, P, D).reshape(N * G, K, P, D) for states in (keys_p, values_p)
            )
            folded = query_c.view(N * G, T, K, R, D).permute(0, 2, 3, 1, 4).reshape(N * G, K, R * T, D)
            out_c = F.scaled_dot_product_attention(
                folded,
                torch.cat((shared_k, own_k), dim=2),
                torch.cat((shared_v, own_v), dim=2),
                attn_mask=self._mask(R, query.dtype),
                scale=scale,
            )
            out_c = out_c.view(N * G, K, R, T, D).permute(0, 3, 1, 2, 4).reshape(N * G * T, H * D)
            out = torch.cat((out, out_c))
        return _Ungather.apply(out, self.unpad_index_L).view(1, L, H, D)

    def _mask(self, repeats: int, dtype: torch.dtype) -> torch.Tensor:
        """(N*G, 1, R*T, P+T): 0 where a query of a completion sees a key, -inf elsewhere. Made once a batch."""
        mask = self._masks.get((repeats, dtype))
        if mask is None:
            device = self.prompt_lengths_N.device
            prompt_NP = torch.arange(self.P, device=device) < self.prompt_lengths_N[:, None]
            own_TT = torch.ones((self.T, self.T), dtype=torch.bool, device=device).tril()
            seen = torch.cat(
                (
                    prompt_NP.repeat_interleave(self.G, 0)[:, None, :].expand(-1, self.T, -1),
                    own_TT.expand(len(prompt_NP) * self.G, -1, -1),
                ),
                dim=2,
            )
            mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -torch.inf)
            mask = self._masks[repeats, dtype] = mask.repeat(1, repeats, 1)[:, None]
        return mask
