"""Attention of a vision tower over images and windows: one call for all that have the same size.

The Qwen towers lay the patches of all images side by side and call attention once for every image, or, in most layers
of Qwen2.5-VL, once for every window. Under a name that says "flash" transformers hands over where each begins instead,
as it does for kernels that take sequences of different lengths. Here those of one length that follow each other are
one batch of SDPA: the same numbers, fewer and larger operations.
"""

from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface

WINDOWS = "curr_reft_windows_flash"

_known: Any = WeakTensorKeyDictionary()  # lengths of the sequences, by the tensor of their bounds


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
    outputs, start = [], 0
    for length, same in groupby(_lengths(cu_seq_lens_q)):
        count = len(list(same))
        end = start + count * length
        q, k, v = (each[0, :, start:end].view(H, count, length, D).transpose(0, 1) for each in (query, key, value))
        output = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)  # (count, H, length, D)
        outputs.append(output.transpose(1, 2).reshape(1, count * length, H, D))
        start = end
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1), None


def _lengths(bounds: torch.Tensor) -> list[int]:
    """Of the sequences between ``bounds``, read once for all layers that are handed the same tensor: on a GPU every
    reading waits for the layers so far."""
    known: list[int] | None = _known.get(bounds)
    if known is None:
        known = _known[bounds] = bounds.diff().tolist()
    return known


AttentionInterface.register(WINDOWS, attend_windows)
