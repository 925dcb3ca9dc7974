"""Attention in which the completions of a group share the keys and values of their prompt, and prompts those of what
they begin with.

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

from curr_reft.policy.gather import Copy, Gather, Ungather
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


@dataclass(frozen=True, kw_only=True)
class Rests:
    """How N prompts go on after what some of them share: each begins with ``common_N`` tokens of one of the trunks."""

    trunks: int
    B: int  # longest beginning
    Q: int  # longest rest
    common_N: torch.Tensor  # int64: tokens of each prompt that stand in its trunk
    token_NP: torch.Tensor  # int64: the token of the row at each place of each prompt (an empty place holds token 0)
    copies: tuple[tuple[torch.Tensor, torch.Tensor], ...]  # the same as (tokens, places): the first prompts of all
    # trunks, the second ones, ...

    def to(self, device: torch.device | str) -> "Rests":
        """With its tensors on ``device``."""
        copies = tuple((tokens.to(device), places.to(device)) for tokens, places in self.copies)
        return replace(self, common_N=self.common_N.to(device), token_NP=self.token_NP.to(device), copies=copies)


@dataclass(eq=False, kw_only=True)
class GroupLayout:
    """N prompts and the G completions of each, as one flat row of L tokens without padding.

    For attention alone the row is spread over rectangles: N x P prompt places, then N x G x T completion places. Where
    prompts share their beginnings (``rests``), the first rectangle holds those, trunks x B, and is followed by one of
    the rests, N x Q. With a kernel for sequences of different lengths it is not spread: see ``varlen.py``.
    """

    pad_index_M: torch.Tensor  # int64: the token in each place of the rectangles (an empty place holds token 0)
    unpad_index_L: torch.Tensor  # int64: the place of each token
    prompt_lengths_N: torch.Tensor  # int64
    P: int  # longest prompt
    G: int  # largest group
    T: int  # most input tokens of a completion (0: prompts only)
    lengths: torch.Tensor  # int64, on the CPU: tokens of each segment of the row (beginnings, rests, completions)
    parents: torch.Tensor  # int64, on the CPU: the segment that each one follows, -1: none
    rests: Rests | None = None  # none: no prompt shares its beginning, and the beginnings are the prompts
    kernel: Kernel | None = None  # none: SDPA over the rectangle
    segments: Segments | None = None  # the same row as sequences, for the kernel
    store: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None  # prefill: layer -> keys, values (N, K, P, D)
    _masks: dict[tuple[int, torch.dtype], torch.Tensor] = field(default_factory=dict)
    _rest_masks: dict[tuple[int, torch.dtype], torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "GroupLayout":
        """The layout with its index tensors on ``device``."""
        indices = {
            name: getattr(self, name).to(device) for name in ("pad_index_M", "unpad_index_L", "prompt_lengths_N")
        }
        segments, rests = self.segments and self.segments.to(device), self.rests and self.rests.to(device)
        return replace(self, **indices, segments=segments, rests=rests, _masks={}, _rest_masks={})

    def using(self, kernel: Kernel | None) -> "GroupLayout":
        """The layout computed by ``kernel``."""
        if kernel is self.kernel:
            return self
        segments = None
        if kernel is not None:
            segments = find_segments(self.lengths, self.parents).to(self.pad_index_M.device)
        return replace(self, kernel=kernel, segments=segments, _masks={}, _rest_masks={})

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        if self.kernel is not None and self.segments is not None:
            assert self.store is None, "keys of a prefill are kept as a rectangle"
            return self.segments.attend(self.kernel, query, key, value, scale)
        N, P, G, T = len(self.prompt_lengths_N), self.P, self.G, self.T
        trunks, B, Q = (self.rests.trunks, self.rests.B, self.rests.Q) if self.rests else (N, P, 0)
        _, H, L, D = query.shape
        K = key.shape[1]
        R = H // K  # query heads that share a key head

        def spread(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            rows = states.transpose(1, 2).reshape(L, -1)
            places = Gather.apply(rows, self.pad_index_M, self.unpad_index_L)
            beginnings, rests, completions = places.split((trunks * B, N * Q, N * G * T))
            return beginnings, rests, completions

        query_b, query_r, query_c = spread(query)
        key_b, _, key_c = spread(key)
        value_b, _, value_c = spread(value)

        # A beginning sees itself. It is padded on the right, so causality alone hides the padding.
        keys_b, values_b = (states.view(trunks, B, K, D).transpose(1, 2) for states in (key_b, value_b))
        each_k, each_v = (
            states[:, :, None].expand(trunks, K, R, B, D).reshape(trunks, H, B, D) for states in (keys_b, values_b)
        )
        out_b = F.scaled_dot_product_attention(
            query_b.view(trunks, B, H, D).transpose(1, 2), each_k, each_v, is_causal=True, scale=scale
        )
        out = out_b.transpose(1, 2).reshape(trunks * B, H * D)

        keys_p, values_p = keys_b, values_b
        if self.rests:  # The rest of a prompt sees the prompt up to itself, its heads folded as those of completions.
            keys_p, values_p = (self._prompts(states, self.rests) for states in (key, value))
            out_r = F.scaled_dot_product_attention(
                query_r.view(N, Q, K, R, D).permute(0, 2, 3, 1, 4).reshape(N, K, R * Q, D),
                keys_p,
                values_p,
                attn_mask=self._mask_rests(R, query.dtype, self.rests),
                scale=scale,
            )
            out_r = out_r.view(N, K, R, Q, D).permute(0, 3, 1, 2, 4).reshape(N * Q, H * D)
            out = torch.cat((out, out_r))
        if self.store is not None:
            self.store[layer] = keys_p.contiguous(), values_p.contiguous()

        if T:
            out = torch.cat((out, self.attend_completions(query_c, key_c, value_c, keys_p, values_p, scale)))
        return Ungather.apply(out, self.unpad_index_L).view(1, L, H, D)

    def attend_completions(
        self,
        query_c: torch.Tensor,
        key_c: torch.Tensor,
        value_c: torch.Tensor,
        keys_p: torch.Tensor,
        values_p: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """A completion sees its prompt and itself. Its tokens by places, (N*G*T, H*D) and twice (N*G*T, K*D), keys and
        values of the prompts (N, K, P, D) -> (N*G*T, H*D)."""
        N, K, P, D = keys_p.shape
        G, T, H = self.G, self.T, query_c.shape[1] // D
        R = H // K  # query heads that share a key head; they are folded into the rows
        own_k, own_v = (states.view(N * G, T, K, D).transpose(1, 2) for states in (key_c, value_c))
        shared_k, shared_v = (
            states[:, None].expand(N, G, K, P, D).reshape(N * G, K, P, D) for states in (keys_p, values_p)
        )
        folded = query_c.view(N * G, T, K, R, D).permute(0, 2, 3, 1, 4).reshape(N * G, K, R * T, D)
        out_c = F.scaled_dot_product_attention(
            folded,
            torch.cat((shared_k, own_k), dim=2),
            torch.cat((shared_v, own_v), dim=2),
            attn_mask=self._mask(R, query_c.dtype),
            scale=scale,
        )
        return out_c.view(N * G, K, R, T, D).permute(0, 3, 1, 2, 4).reshape(N * G * T, H * D)

    def _prompts(self, states: torch.Tensor, rests: Rests) -> torch.Tensor:
        """Keys or values of the row (1, K, L, D) -> those of the whole prompts (N, K, P, D)."""
        _, K, L, D = states.shape
        rows = states.transpose(1, 2).reshape(L, K * D)
        copied = Copy.apply(rows, rests.token_NP.flatten(), rests.copies)
        return copied.view(len(self.prompt_lengths_N), self.P, K, D).transpose(1, 2)

    def _mask_rests(self, repeats: int, dtype: torch.dtype, rests: Rests) -> torch.Tensor:
        """(N, 1, R*Q, P): 0 where a query of a rest sees a key of its prompt, -inf elsewhere. Made once a batch."""
        mask = self._rest_masks.get((repeats, dtype))
        if mask is None:
            device = self.prompt_lengths_N.device
            last_NQ = rests.common_N[:, None] + torch.arange(rests.Q, device=device)
            unseen = torch.arange(self.P, device=device) > last_NQ[:, :, None]
            mask = torch.zeros(unseen.shape, dtype=dtype, device=device).masked_fill_(unseen, -torch.inf)
            mask = self._rest_masks[repeats, dtype] = _aligned(mask.repeat(1, repeats, 1))[:, None]
        return mask

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
            mask = self._masks[repeats, dtype] = _aligned(mask.repeat(1, repeats, 1))[:, None]
        return mask


def _aligned(mask: torch.Tensor) -> torch.Tensor:
    """The same numbers, on a GPU in rows that begin at multiples of 8: where they do not, SDPA copies the mask in every
    layer, and every layer keeps its copy for backward (``pad_bias`` in torch's attention.cpp)."""
    if mask.device.type != "cuda":
        return mask
    keys = mask.shape[-1]
    return F.pad(mask, (0, -keys % 8))[..., :keys]
