"""The state of AdamW as flat named tensors, so that it is saved as safetensors and comes back bit for bit.

Learning rate, decay and the like are not in it: they come from the recipe and the step.
"""

from collections.abc import Iterable, Mapping

import torch

from curr_reft.errors import CheckpointError
from curr_reft.policy.sharding import placed_like

KEYS = ("exp_avg", "exp_avg_sq", "step")


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, named: Iterable[tuple[str, torch.nn.Parameter]]
) -> dict[str, torch.Tensor]:
    """``NAME.exp_avg``, ``NAME.exp_avg_sq``, ``NAME.step`` of every parameter that has been stepped.

    ``named`` is ``model.named_parameters()``; parameters the optimizer does not hold are passed over.
    """
    held = _held(optimizer)
    tensors = {}
    for name, parameter in named:
        state = optimizer.state.get(parameter) if parameter in held else None
        if state:
            tensors.update({f"{name}.{key}": torch.as_tensor(state[key]) for key in KEYS})
    return tensors


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    named: Iterable[tuple[str, torch.nn.Parameter]],
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Give ``optimizer`` the state in ``tensors``. Raises CheckpointError when they are not those of ``named``."""
    held = _held(optimizer)
    optimizer.state.clear()
    left = set(tensors)
    for name, parameter in named:
        if parameter not in held or not any(f"{name}.{key}" in left for key in KEYS):
            continue
        for key in KEYS:
            tensor = tensors.get(f"{name}.{key}")
            if tensor is None:
                raise CheckpointError(f"the optimizer state has no {name}.{key}")
            if key != "step" and tensor.shape != parameter.shape:
                shapes = f"{tuple(tensor.shape)}, the parameter {tuple(parameter.shape)}"
                raise CheckpointError(f"the optimizer state {name}.{key} has the shape {shapes}")
            group = held[parameter]
            # Plain AdamW counts its steps on the CPU; the fused and capturable ones beside the parameter.
            if key == "step":
                on_cpu = not (group.get("fused") or group.get("capturable"))
                optimizer.state[parameter][key] = tensor.to("cpu" if on_cpu else parameter.device).clone()
            else:
                optimizer.state[parameter][key] = placed_like(tensor, parameter).clone()
            left.discard(f"{name}.{key}")
    if left:
        raise CheckpointError(f"the optimizer state holds {sorted(left)[0]}, which no trained parameter has")


def _held(optimizer: torch.optim.Optimizer) -> dict[torch.nn.Parameter, dict[str, object]]:
    return {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
