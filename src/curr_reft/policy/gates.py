"""The gate of a feed-forward layer, silu(gate) * up, as one operation that keeps its two inputs and nothing else.

Written out, what silu puts out is kept for backward besides: a tenth of all that a layer keeps. As in ``norms.py``, on
a CPU, and only while a context is open.
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


@contextmanager
def gates_as_one(core: Any) -> Iterator[None]:
    """While inside, the gated feed-forward layers of ``core`` keep less for their backward."""
    with ExitStack() as stack:
        if applies(core) and core.device.type == "cpu":
            for module in core.modules():
                if _is_gated(module):
                    stack.enter_context(computed_by(module, partial(_compute, module)))
        yield


def _is_gated(module: nn.Module) -> bool:
    parts = {name for name, _ in module.named_children()}
    return (
        type(module).__name__.endswith("MLP")
        and parts == {"gate_proj", "up_proj", "down_proj", "act_fn"}
        and type(module.act_fn).__name__ in ("SiLU", "SiLUActivation")
    )


def _compute(module: Any, rows: torch.Tensor) -> Any:
    return module.down_proj(_SiluGate.apply(module.gate_proj(rows), module.up_proj(rows)))
