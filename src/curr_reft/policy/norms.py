"""RMS norms as one operation with a backward of its own.

Written out, as models of transformers have it, a norm is six operations over all numbers forward and some fifteen
backward, each through memory. Here it is three and seven, and of the forward only the input is kept. On a CPU in
float32; on a GPU torch has a kernel for each direction, which rounds once where the modules, in bfloat16, round twice.
Elsewhere the modules compute as they do. As in ``patches.py``, the model is not changed: while a context is open, its
modules compute by another function on the same parameters.

The derivative is that of Zhang and Sennrich 2019 (arXiv 1910.07467), equation 4.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from curr_reft.policy.patches import computed_by
from curr_reft.policy.sharing import CHECKED_TEXT_MODELS


class _RmsNorm(torch.autograd.Function):
    """x (..., D) / sqrt(mean(x^2) + epsilon) * weight (D)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return torch.mul(x, inverse).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, weight, inverse = ctx.saved_tensors
        D = x.shape[-1]
        normed = torch.mul(x, inverse)
        weighed_ND = torch.mul(gradient, normed).reshape(-1, D)
        of_weight = weighed_ND.sum(0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None
        along = torch.mv(weighed_ND, weight).view(inverse.shape).div_(D)
        of_x = torch.mul(gradient, weight).addcmul_(normed, along, value=-1).mul_(inverse)
        return of_x, of_weight, None


@contextmanager
def norms_as_one(core: Any) -> Iterator[None]:
    """While inside, the RMS norms of ``core`` compute as one operation, where ``applies`` says so."""
    with ExitStack() as stack:
        if applies(core):
            for module in core.modules():
                if _is_rms_norm(module):
                    stack.enter_context(computed_by(module, partial(_compute, module, module.forward)))
        yield


def applies(core: Any) -> bool:
    """On a CPU or a GPU, for language models that are known, and not with gradient checkpointing: its second forward
    runs when the context is closed."""
    known = core.config.get_text_config().model_type in CHECKED_TEXT_MODELS
    return known and core.device.type in ("cpu", "cuda") and not core.is_gradient_checkpointing


def _is_rms_norm(module: nn.Module) -> bool:
    """By name and parts: every architecture of transformers has a class of its own. That those of the checked ones
    compute the same is what the tests of the families hold."""
    return (
        type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon") and hasattr(module, "weight")
    )


def _compute(module: Any, own: Any, x: torch.Tensor) -> Any:
    if x.device.type == "cuda" and x.dtype == module.weight.dtype:
        # As the module does, in the type of its input: autocast, which TRL's trainer opens, would make it float32.
        return F.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon).to(x.dtype)
    if x.dtype != torch.float32 or module.weight.dtype != torch.float32:
        return own(x)
    return _RmsNorm.apply(x, module.weight, module.variance_epsilon)
