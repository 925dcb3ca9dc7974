"""The embedding of an image's patches as the matrix product that it is.

The towers of the Qwen families call a convolution whose kernel is the whole patch: one product for each patch, and
nothing slides. Libraries run it as any other convolution, on a CPU ten times slower than the product. The model is not
changed: while a context is open, the module computes by another function on the same parameters, its hooks run as
ever, and gradients reach weight and bias by the same names.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


@contextmanager
def computed_by(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """While inside, calling ``module`` calls ``forward``; what it was called with and its hooks stay."""
    own = vars(module).get("forward")  # a wrapper of the module may have put one there
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        if own is None:
            del vars(module)["forward"]
        else:
            vars(module)["forward"] = own


def find_patch_embedding(tower: nn.Module) -> nn.Conv3d | None:
    """The convolution of ``tower`` whose kernels touch and do not overlap, if there is one."""
    for module in tower.modules():
        if type(module) is nn.Conv3d:
            plain = set(module.padding) == {0} and set(module.dilation) == {1} and module.groups == 1
            return module if plain and module.kernel_size == module.stride else None
    return None


@contextmanager
def patches_as_product(embedding: nn.Conv3d | None) -> Iterator[None]:
    """While inside, ``embedding`` (if there is one) computes inputs of exactly its kernel's size as one product."""
    if embedding is None:
        yield
        return
    convolution = embedding.forward

    def product(patches: torch.Tensor) -> torch.Tensor:
        """patches (M, channels, *kernel) -> (M, out, 1, 1, 1)."""
        if tuple(patches.shape[2:]) != embedding.kernel_size:
            return convolution(patches)
        flat = patches.reshape(len(patches), math.prod(patches.shape[1:]))
        out = F.linear(flat, embedding.weight.flatten(1), embedding.bias)
        return out[..., None, None, None]

    with computed_by(embedding, product):
        yield
