"""Attention of a vision tower over images and windows: one call for all that have the same size.

The Qwen towers lay the patches of all images side by side and call attention once for every image, or, in most layers
of Qwen2.5-VL, once for every window. Under a name that says "flash" transformers hands over where each begins instead,
as it does for kernels that take sequences of different lengths. Here those of one length that follow each other are
one batch of SDPA: the same numbers, fewer and larger operations. On a GPU, where a call costs more than a copy, windows
are laid side by side by length first: those at the edges of an image would end a batch in every row of windows.
"""

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface

from curr_reft.policy.gather import Gather

WINDOWS = "curr_reft_windows_flash"

_known: Any = WeakTensorKeyDictionary()  # sequences by the tensor of their bounds


def attend_windows(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The registered function; the signature is transformers'. query, key, value (1, H, L, D) -> (1, L, H, D)."""
    assert cu_seq_lens_q is not None
    assert attention_mask is None
    _, H, _, D = query.shape
    sequences = _sequences(cu_seq_lens_q)
    query, key, value = (sequences.in_order(each[0].transpose(0, 1)).transpose(0, 1) for each in (query, key, value))
    outputs, start = [], 0
    for length, same in groupby(sequences.lengths):
        count = len(list(same))
        end = start + count * length
        q, k, v = (each[:, start:end].view(H, count, length, D).transpose(0, 1) for each in (query, key, value))
        output = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)  # (count, H, length, D)
        outputs.append(output.transpose(1, 2).reshape(count * length, H, D))
        start = end
    output_LHD = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return sequences.as_they_were(output_LHD)[None], None


@dataclass(frozen=True, kw_only=True)
class _Sequences:
    """Lengths in the order in which attention takes them; that order, where it is not that of the tower."""

    lengths: list[int]
    order_L: torch.Tensor | None = None  # int64: the patch at each place
    back_L: torch.Tensor | None = None  # the inverse

    def in_order(self, rows: torch.Tensor) -> torch.Tensor:
        """rows (L, ...)"""
        return rows if self.order_L is None else Gather.apply(rows, self.order_L, self.back_L)

    def as_they_were(self, rows: torch.Tensor) -> torch.Tensor:
        """The inverse."""
        return rows if self.order_L is None else Gather.apply(rows, self.back_L, self.order_L)


def _sequences(bounds: torch.Tensor) -> _Sequences:
    """Those between ``bounds``, read once for all layers that are handed the same tensor: on a GPU every reading waits
    for the layers so far."""
    known: _Sequences | None = _known.get(bounds)
    if known is None:
        known = _known[bounds] = _read(bounds)
    return known


def _read(bounds: torch.Tensor) -> _Sequences:
    starts = bounds.tolist()
    lengths = [end - start for start, end in pairwise(starts)]
    if bounds.device.type != "cuda" or len(list(groupby(lengths))) == len(set(lengths)):
        return _Sequences(lengths=lengths)
    places = sorted(range(len(lengths)), key=lengths.__getitem__)
    order_L = torch.cat([torch.arange(starts[place], starts[place + 1]) for place in places])
    back_L = order_L.argsort().to(bounds.device)
    return _Sequences(lengths=sorted(lengths), order_L=order_L.to(bounds.device), back_L=back_L)


AttentionInterface.register(WINDOWS, attend_windows)
