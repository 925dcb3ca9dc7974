"""Log-probabilities of given tokens, a few rows of logits at a time.

Written out, the bias, the softmax, its logarithm and their gradients are each as large as all logits. Here nothing but
the logits and their gradient is, and what lies between stays in the cache of a core.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

AT_ONCE = 1 << 18
"""Numbers that are worked on at a time: 1 MB."""


def target_logprobs(
    logits_SV: torch.Tensor, targets_S: torch.Tensor, bias_V: torch.Tensor, temperature: float
) -> torch.Tensor:
    """float32 logprobs_S of ``targets_S`` under the softmax of ``logits_SV / temperature + bias_V``, with gradient to
    the logits. A temperature of 0 (greedy) counts as 1."""
    made: torch.Tensor = _TargetLogprobs.apply(logits_SV, targets_S, bias_V, temperature or 1.0)
    return made


class _TargetLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_SV: torch.Tensor, targets_S: torch.Tensor, bias_V: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        S = len(logits_SV)
        total_S = torch.empty(S, dtype=torch.float32, device=logits_SV.device)
        chosen_S = torch.empty_like(total_S)
        for part in _parts(logits_SV):
            scaled = _scaled(logits_SV[part], bias_V, temperature)
            total_S[part] = scaled.logsumexp(-1)
            chosen_S[part] = scaled.gather(1, targets_S[part, None])[:, 0]
        ctx.save_for_backward(logits_SV, targets_S, bias_V, total_S)
        ctx.temperature = temperature
        return chosen_S.sub_(total_S)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_S: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        logits_SV, targets_S, bias_V, total_S = ctx.saved_tensors
        weight_S1 = gradient_S[:, None] / ctx.temperature
        out_SV = torch.empty_like(logits_SV)
        for part in _parts(logits_SV):
            probabilities = _scaled(logits_SV[part], bias_V, ctx.temperature).sub_(total_S[part, None]).exp_()
            of_logits = probabilities.mul_(-weight_S1[part])
            out_SV[part] = of_logits.scatter_add_(1, targets_S[part, None], weight_S1[part])
        return out_SV, None, None, None


def _scaled(logits: torch.Tensor, bias_V: torch.Tensor, temperature: float) -> torch.Tensor:
    """A new float32 tensor."""
    return (logits.float() / temperature).add_(bias_V) if temperature != 1.0 else logits.float() + bias_V


def _parts(logits_SV: torch.Tensor) -> Iterator[slice]:
    S, V = logits_SV.shape
    size = max(1, AT_ONCE // V) if logits_SV.device.type == "cpu" else max(1, 64 * AT_ONCE // V)
    return (slice(start, start + size) for start in range(0, S, size))
