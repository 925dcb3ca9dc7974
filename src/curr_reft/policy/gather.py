"""Rows of a tensor looked up by an index, with backward passes that are lookups too, or sums in a fixed order."""

from typing import Any

import torch


class Gather(torch.autograd.Function):
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


class Ungather(torch.autograd.Function):
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


class Copy(torch.autograd.Function):
    """``rows[index]`` where a row may stand in the output several times, and empty places hold any row.

    Backward adds up the copies in a fixed order: ``copies`` are (rows, places) pairs in each of which no row comes
    twice. What flows back through empty places is nothing.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, index: torch.Tensor, copies: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    ) -> torch.Tensor:
        ctx.copies, ctx.length = copies, rows.shape[0]
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        out = gradients[0].new_zeros((ctx.length, *gradients[0].shape[1:]))
        for rows, places in ctx.copies:
            out.index_add_(0, rows, gradients[0].index_select(0, places))
        return out, None, None
