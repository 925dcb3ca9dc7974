"""Small updates of a bfloat16 model are not lost to rounding; a float32 model is trained as it is."""

import pytest
import torch
from torch import nn

from curr_reft.errors import TrainingError
from curr_reft.train.master_weights import MasterWeights


def layer(dtype: torch.dtype) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 8, bias=False).to(dtype)


def descend(model: nn.Module, held: list[nn.Parameter], weights: MasterWeights | None, steps: int) -> None:
    optimizer = torch.optim.AdamW(held, lr=1e-6, weight_decay=0.0)
    for _ in range(steps):
        model(torch.ones(1, 8, dtype=model.weight.dtype)).sum().backward()
        if weights is not None:
            weights.take_gradients()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if weights is not None:
            weights.give_back()


def test_updates_below_the_rounding_of_bfloat16_add_up() -> None:
    in_place, model = layer(torch.bfloat16), layer(torch.bfloat16)
    before = model.weight.detach().clone()
    descend(in_place, list(in_place.parameters()), None, 2000)
    large = before.abs() > 0.1
    assert torch.equal(in_place.weight[large], before[large])  # what the copies are for
    weights = MasterWeights(model)
    descend(model, list(weights.held.values()), weights, 2000)
    moved = (before.float() - weights.held["weight"]).mean()
    assert float(moved.detach()) == pytest.approx(2e-3, rel=0.02)  # AdamW moves by the rate, 2,000 times
    assert not torch.equal(model.weight[large], before[large])
    assert torch.equal(model.weight, weights.held["weight"].bfloat16())


def test_a_float32_parameter_is_its_own_copy() -> None:
    model = layer(torch.float32)
    assert MasterWeights(model).held["weight"] is model.weight


def test_frozen_parameters_are_not_held_and_other_names_are_refused() -> None:
    model = nn.Sequential(layer(torch.bfloat16), layer(torch.bfloat16))
    model[0].requires_grad_(False)
    weights = MasterWeights(model)
    assert list(weights.held) == ["1.weight"]
    with pytest.raises(TrainingError, match=r"0\.weight"):
        weights.restore({"0.weight": torch.zeros(8, 8)})
    weights.restore({"1.weight": torch.full((8, 8), 0.3)})
    assert torch.equal(model[1].weight, torch.full((8, 8), 0.3).bfloat16())
