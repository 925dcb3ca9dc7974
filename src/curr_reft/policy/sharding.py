"""The policy's weights as shards, one share in each process, while it is trained (FSDP2 of torch).

Every process holds a share of each trained weight, of its gradient and of its moments. A training forward gathers the
weights of one layer after another, and so does backward; for a rollout, whose processes decode for different numbers of
steps, all are gathered once and stay until it is over.

The layers of the language model are gathered one by one; all the rest, the vision tower included, goes with the whole:
a row without images, or with features that are known, passes the tower in one process and not in another, and what is
gathered must not depend on that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from curr_reft.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """What was sharded, and how."""

    core: FSDPModule
    layers: tuple[FSDPModule, ...]
    reshard_after_forward: bool  # false: what forward gathered stays for backward, as in ZeRO-2

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """While inside, every process has all weights whole, and its forward calls wait for no other process.

        All processes must enter and leave together.
        """
        for module in (self.core, *self.layers):
            module.unshard()
        self._keep_whole(True)
        try:
            yield
        finally:
            self._keep_whole(False)
            for module in (self.core, *self.layers):
                module.reshard()

    def _keep_whole(self, whole: bool) -> None:
        for layer in self.layers:
            layer.set_reshard_after_forward(self.reshard_after_forward and not whole, recurse=False)


def shard(core: Any, *, reshard_after_forward: bool) -> Sharding:
    """Shard the transformers model ``core`` in place, over all processes. Gradients are added up, not averaged.

    Raises UsageError for a version of torch that cannot.
    """
    if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
        raise UsageError(
            f"FSDP2 of rows with and without images needs torch 2.13 or later, and this is {torch.__version__}"
        )
    options: dict[str, Any] = {"mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32)}
    layers = tuple(core.get_decoder().layers)
    for layer in layers:
        fully_shard(layer, reshard_after_forward=reshard_after_forward, **options)
    fully_shard(core, **options)
    for module in (core, *layers):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        # A row without images gives the tower no gradient in this process, and others wait for its share.
        module.set_reduce_scatter_unused_params(True, recurse=False)
    return Sharding(core=core, layers=layers, reshard_after_forward=reshard_after_forward)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A shard as the whole tensor; any other as it is. All processes must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``tensor``, whole in every process, on the device of ``like`` and as its shards where it is one."""
    tensor = tensor.to(like.device)
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def is_shard(tensor: torch.Tensor) -> bool:
    """Whether this process holds a share of ``tensor`` only."""
    return isinstance(tensor, DTensor)
