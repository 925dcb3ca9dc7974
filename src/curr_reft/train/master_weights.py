"""The trained parameters in float32, whatever type the model computes in.

A bfloat16 weight keeps 8 bits: an update of 1e-6 on a weight of 0.02 is lost by rounding, and a model trained in place
would silently not move. So AdamW works on float32 copies, which are rounded into the model after every step and are
what checkpoints hold. A float32 parameter is its own copy: nothing is added there. Of weights that are sharded, all of
this is sharded alike.
"""

from collections.abc import Mapping

import torch
from torch import nn

from curr_reft.errors import TrainingError
from curr_reft.policy.sharding import placed_like


class MasterWeights:
    """Trained parameters by name: ``held`` is what the optimizer steps, ``used`` is what the model computes with."""

    def __init__(self, model: nn.Module) -> None:
        self.used = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.held = {
            name: parameter if parameter.dtype == torch.float32 else nn.Parameter(parameter.detach().float())
            for name, parameter in self.used.items()
        }

    def take_gradients(self) -> None:
        """Move the gradients of the model's parameters to the float32 copies."""
        for name, used in self.used.items():
            held = self.held[name]
            if held is not used:
                held.grad = None if used.grad is None else used.grad.float()
                used.grad = None

    def give_back(self) -> None:
        """Round the float32 copies into the model."""
        with torch.no_grad():
            for name, used in self.used.items():
                if self.held[name] is not used:
                    used.copy_(self.held[name])

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Give copies and model their saved values. Raises TrainingError when the names are not the same."""
        if set(self.held) != set(tensors):
            odd = sorted(set(self.held) ^ set(tensors))[:5]
            raise TrainingError(f"the checkpoint and the model do not train the same parameters; they differ in {odd}")
        with torch.no_grad():
            for name, held in self.held.items():
                held.copy_(placed_like(tensors[name], held))
        self.give_back()
