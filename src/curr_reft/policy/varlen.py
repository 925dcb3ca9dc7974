"""A packed row through a flash-attention kernel for sequences of different lengths: no padding, no mask in memory.

Every segment of the row (what prompts begin with, the rest of a prompt, a completion) is one sequence. Its keys are
those of the segments it follows and then its own, with causality counted from the end of all, as flash-attention 2.1
and later do. So queries and output stay in the order of the row, and only keys and values are gathered: once more for
each segment that follows.

These kernels run on CUDA in half precision. What they are told (bounds and gathered keys) is tested on a CPU against a
plain implementation of the same signature; the kernels themselves were not run by this project's tests, which have no
GPU. The check at the start of a run (``selfcheck.py``) covers them on the user's machine. The order of sums in their
backward pass is not fixed. Not used in prefill and decoding.
"""

import importlib.util
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Protocol

import torch

from curr_reft.errors import UsageError


class Kernel(Protocol):
    """Causal attention of M sequences that lie one after the other; the last query of each sees all its keys."""

    def __call__(
        self,
        query: torch.Tensor,  # (queries, H, D)
        key: torch.Tensor,  # (keys, K, D)
        value: torch.Tensor,  # (keys, K, D)
        query_bounds: torch.Tensor,  # int32 (M + 1): where each sequence begins, and the end of the last
        key_bounds: torch.Tensor,  # int32 (M + 1)
        longest_query: int,
        longest_key: int,
        scale: float,
    ) -> torch.Tensor:  # (queries, H, D)
        ...


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Which keys each segment of a row attends to. Empty segments are left out."""

    query_bounds: torch.Tensor  # int32 (M + 1)
    key_bounds: torch.Tensor  # int32 (M + 1)
    key_index: torch.Tensor  # int64: the token of the row at each place of the keys
    longest_query: int
    longest_key: int

    def to(self, device: torch.device | str) -> "Segments":
        """The segments with their tensors on ``device``."""
        names = ("query_bounds", "key_bounds", "key_index")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def attend(
        self, kernel: Kernel, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """query (1, H, L, D), key and value (1, K, L, D), rotated -> (1, L, H, D)."""
        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
        out = kernel(
            query.contiguous(),
            key.index_select(0, self.key_index),
            value.index_select(0, self.key_index),
            self.query_bounds,
            self.key_bounds,
            self.longest_query,
            self.longest_key,
            scale,
        )
        return out[None]


def find_segments(lengths_M: torch.Tensor, parents_M: torch.Tensor) -> Segments:
    """Of a row whose segments form trees: each sees itself and, before that, the segments above it.

    lengths_M, parents_M: int64, in the order of the row: the tokens of each segment, and which one it follows (one
    before it in the row; -1: none). Empty segments pass on what is above them.
    """
    starts = (lengths_M.cumsum(0) - lengths_M).tolist()
    keys: list[torch.Tensor] = []  # the tokens that each segment sees, its own last
    for start, length, parent in zip(starts, lengths_M.tolist(), parents_M.tolist(), strict=True):
        own = torch.arange(start, start + length)
        keys.append(own if parent < 0 else torch.cat((keys[parent], own)))
    kept = [segment for segment, length in enumerate(lengths_M.tolist()) if length]
    seen = torch.tensor([len(keys[segment]) for segment in kept])
    return Segments(
        query_bounds=_bounds(lengths_M[kept]),
        key_bounds=_bounds(seen),
        key_index=torch.cat([keys[segment] for segment in kept]),
        longest_query=int(lengths_M.max()),
        longest_key=int(seen.max()),
    )


def _bounds(lengths: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


def choose_kernel(wanted: str, device: torch.device, dtype: torch.dtype) -> Kernel | None:
    """The kernel for ``model.attention``: ``auto``, ``sdpa`` or ``flash``; None is SDPA.

    ``auto`` takes the flash-attn package where it is installed and can be used. ``flash`` takes torch's own kernel
    where the package is missing, and raises UsageError where neither can be used.
    """
    usable = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    installed = importlib.util.find_spec("flash_attn") is not None
    if wanted == "sdpa" or (wanted == "auto" and not (usable and installed)):
        return None
    if not usable:
        raise UsageError(
            f"model.attention: 'flash' needs a GPU and model.dtype bfloat16 (here: {device.type}, "
            f"{str(dtype).removeprefix('torch.')}); set it to auto or sdpa"
        )
    return _flash_attn if installed else _torch_varlen


def _flash_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_bounds: torch.Tensor,
    key_bounds: torch.Tensor,
    longest_query: int,
    longest_key: int,
    scale: float,
) -> torch.Tensor:
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found]

    out: torch.Tensor = flash_attn_varlen_func(
        query,
        key,
        value,
        query_bounds,
        key_bounds,
        longest_query,
        longest_key,
        softmax_scale=scale,
        causal=True,
    )
    return out


def _torch_varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_bounds: torch.Tensor,
    key_bounds: torch.Tensor,
    longest_query: int,
    longest_key: int,
    scale: float,
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    out = varlen_attn(
        query,
        key,
        value,
        query_bounds,
        key_bounds,
        longest_query,
        longest_key,
        scale=scale,
        window_size=(-1, 0),  # causal
        **_shared_keys(query.shape[1] != key.shape[1]),
    )
    assert isinstance(out, torch.Tensor)  # a pair only where the log-sum-exp is asked for
    return out


def _shared_keys(shared: bool) -> dict[str, Any]:
    """How ``varlen_attn`` is told that query heads share a key head: torch 2.11 knows no such keyword and leaves it to
    the kernel, which counts heads itself; later versions refuse it unless they are told."""
    from torch.nn.attention.varlen import varlen_attn

    return {"enable_gqa": True} if shared and "enable_gqa" in signature(varlen_attn).parameters else {}
