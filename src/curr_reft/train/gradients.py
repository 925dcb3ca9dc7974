"""The gradient of a step, whose groups several processes hold: the sum of theirs, once a step.

DDP's wrapper does the same during the last backward, and asks that all processes call the model equally often and use
every parameter each time. Here they do neither: a process has as many micro-batches as its groups fill, none where all
of its groups agree, and a row without images leaves the vision tower out. The sum is taken when backward is over.
"""

from collections.abc import Iterable

import torch
from torch import nn

from curr_reft import processes
from curr_reft.policy.sharding import is_shard

BUCKET = 1 << 24
"""Numbers that are sent at once, 64 MB in float32: as much is held beside the gradients."""


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Every ``.grad`` becomes the sum over all processes; a parameter that none has a gradient of keeps none.

    Shards are passed over: FSDP2 adds up as it goes. All processes end with the same bits.
    """
    own = [parameter for parameter in parameters if not is_shard(parameter)]
    if processes.count() == 1 or not own:
        return
    used = torch.tensor([parameter.grad is not None for parameter in own], dtype=torch.int32, device=own[0].device)
    torch.distributed.all_reduce(used)
    bucket: list[nn.Parameter] = []
    for parameter, count in zip(own, used.tolist(), strict=True):
        if not count:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if bucket and sum(each.numel() for each in bucket) + parameter.numel() > BUCKET:
            _add(bucket)
            bucket = []
        bucket.append(parameter)
    if bucket:
        _add(bucket)


def _add(bucket: list[nn.Parameter]) -> None:
    gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
