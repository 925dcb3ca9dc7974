"""Norms as one operation, and windows as one batch: the same numbers and gradients as the model's own modules."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from curr_reft.policy.norms import _RmsNorm, norms_as_one
from curr_reft.policy.windows import attend_windows


@pytest.mark.parametrize("trained", [(True, True), (True, False), (False, True)])
def test_the_derivative_is_right(trained):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((2, 3, 5), generator=generator, dtype=torch.float64).requires_grad_(trained[0])
    weight = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_(trained[1])
    assert torch.autograd.gradcheck(lambda x, weight: _RmsNorm.apply(x, weight, 1e-3), (x, weight))
    assert torch.allclose(_RmsNorm.apply(x, weight, 1e-3), F.rms_norm(x, (5,), weight, 1e-3))


def test_gradients_of_a_transposed_view():
    """As the norms of single heads get them (Qwen3)."""
    x, weight = torch.randn(2, 7, 4, 6, requires_grad=True), torch.randn(6, requires_grad=True)
    for norm in (lambda: F.rms_norm(x, (6,), weight, 1e-6), lambda: _RmsNorm.apply(x, weight, 1e-6)):
        made = norm().transpose(1, 2)
        (made.sin() * torch.arange(6.0)).sum().backward()
    # the second gradients were added to the first: twice the same
    both = x.grad.clone(), weight.grad.clone()
    x.grad = weight.grad = None
    (F.rms_norm(x, (6,), weight, 1e-6).transpose(1, 2).sin() * torch.arange(6.0)).sum().backward()
    assert torch.allclose(both[0], 2 * x.grad, atol=1e-5)
    assert torch.allclose(both[1], 2 * weight.grad, atol=1e-4)


def used(core):
    """How many norms compute as one while the context is open, and that none does afterwards."""
    with norms_as_one(core):
        inside = sum("forward" in vars(module) for module in core.modules())
    assert not any("forward" in vars(module) for module in core.modules())
    return inside


def test_where_norms_are_one(fresh):
    core = fresh().core
    text, tower = core.get_decoder().config, core.model.visual.config
    assert used(core) == 2 * text.num_hidden_layers + 1 + 2 * tower.depth + 1  # and the merger's
    core.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert used(core) == 0  # what backward computes again would not be the same graph
    core.gradient_checkpointing_disable()
    text.model_type = "gemma"  # adds 1 to the weight
    assert used(core) == 0


def test_other_types_compute_as_they_do(fresh):
    core = fresh().core
    norm = core.get_decoder().norm
    rows = torch.randn(3, norm.weight.shape[0], dtype=torch.bfloat16)
    expected = norm(rows)
    with norms_as_one(core):
        assert torch.equal(norm(rows), expected)


@pytest.mark.parametrize("lengths", [[4, 4, 4], [4, 4, 2, 4, 4, 2, 2], [9], [1, 2, 3]], ids=str)
def test_windows_are_attended_each_by_itself(lengths):
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn((3, 1, 2, sum(lengths), 8), generator=generator)
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    got, _ = attend_windows(nn.Identity(), query, key, value, None, scaling=0.3, cu_seq_lens_q=ends)
    parts = zip(*(each.split(lengths, dim=2) for each in (query, key, value)), strict=True)
    expected = torch.cat([F.scaled_dot_product_attention(*part, scale=0.3) for part in parts], dim=2)
    assert got.shape == (1, sum(lengths), 2, 8)
    assert torch.allclose(got, expected.transpose(1, 2), atol=1e-6)


def test_the_tower_calls_attention_once_a_size(policy, prompts, monkeypatch):
    """A layer of windows of one image: full ones are one call, whichever their number."""
    sizes = []
    attend = F.scaled_dot_product_attention

    def counted(query, *rest, **options):
        sizes.append(tuple(query.shape))
        return attend(query, *rest, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    pixels = prompts[1].pixel_inputs
    with torch.no_grad():
        policy.core.model.visual(pixels["pixel_values"], grid_thw=pixels["image_grid_thw"])
    assert len(sizes) == policy.core.model.visual.config.depth
