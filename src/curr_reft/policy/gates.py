"""The gate of a feed-forward layer, silu(gate) * up, and the linear layer behind it, as one operation that keeps the
gate's two inputs and nothing else.

Written out, what silu puts out and the product are kept for backward besides: a fifth of all that a layer keeps.
Backward makes them again, the same numbers by the same operations. As in ``norms.py``, on a CPU, and only while a
context is open.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from curr_reft.policy.norms import applies
from curr_reft.policy.patches import computed_by


class _SiluGate(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        of_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return of_gate, F.silu(gate).mul_(gradient)


class _GateDown(torch.autograd.Function):
    """The linear layer of silu(gate) * up, (..., inner) -> (..., width): backward makes its input again."""

    @staticmethod
    def forward(
        ctx: Any, gate: torch.Tensor, up: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(gate, up, weight)
        return F.linear(F.silu(gate).mul_(up), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        silu = F.silu(gate)
        of_weight = rows.t() @ torch.mul(silu, up).flatten(0, -2) if ctx.needs_input_grad[2] else None
        of_bias = rows.sum(0) if ctx.needs_input_grad[3] else None
        if not any(ctx.needs_input_grad[:2]):
            return None, None, of_weight, of_bias
        of_product = (rows @ weight).view_as(gate)
        of_gate = torch.ops.aten.silu_backward(of_product * up, gate)
        return of_gate, silu.mul_(of_product), of_weight, of_bias


@contextmanager
def gates_as_one(core: Any) -> Iterator[None]:
    """While inside, the gated feed-forward layers of ``core`` keep less for their backward."""
    with ExitStack() as stack:
        if applies(core) and core.device.type == "cpu":
            for module in core.modules():
                if is_gated(module):
                    stack.enter_context(computed_by(module, partial(_compute, module)))
        yield


def is_gated(module: nn.Module) -> bool:
    """By name and parts, as for the norms."""
    parts = {name for name, _ in module.named_children()}
    return (
        type(module).__name__.endswith("MLP")
        and parts == {"gate_proj", "up_proj", "down_proj", "act_fn"}
        and type(module.act_fn).__name__ in ("SiLU", "SiLUActivation")
    )


def _compute(module: Any, rows: torch.Tensor) -> Any:
    gate, up, down = module.gate_proj(rows), module.up_proj(rows), module.down_proj
    bare = type(down) is nn.Linear and not (down._forward_hooks or down._forward_pre_hooks or "forward" in vars(down))
    if bare and gate.dtype == down.weight.dtype:  # they differ under autocast, which knows no backward of ours
        return _GateDown.apply(gate, up, down.weight, down.bias)
    return down(_SiluGate.apply(gate, up))
