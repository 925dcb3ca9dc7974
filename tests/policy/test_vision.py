"""Images are computed once: patches as a product, features kept of frozen towers, the graph of a trained one reused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.features import FeatureStore
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.patches import computed_by, find_patch_embedding, patches_as_product
from curr_reft.policy.rollout import rollout

SAMPLING = SamplingConfig(group_size=3, max_new_tokens=6)


@pytest.fixture
def counted(fresh):
    """``counted(**options)``: a policy, and a list that grows by the patches of each pass of its tower."""

    def build(**options):
        policy, seen = fresh(**options), []
        policy.patch_embedding.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
        return policy, seen

    return build


def gradients(policy, groups):
    policy.model.zero_grad()
    logprobs_S = packed_logprobs(policy, pack(groups, policy.family))
    (logprobs_S * torch.linspace(-1, 2, len(logprobs_S))).sum().backward()
    return logprobs_S.detach(), {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bias", [True, False])
def test_the_product_is_the_convolution(bias):
    torch.manual_seed(0)
    embedding = nn.Conv3d(3, 16, (2, 4, 4), stride=(2, 4, 4), bias=bias)
    patches = torch.randn(7, 3, 2, 4, 4, requires_grad=True)
    results = []
    for known in (None, embedding):
        with patches_as_product(known):
            assert ("forward" in vars(embedding)) == (known is not None)
            out = embedding(patches)
        embedding.zero_grad()
        patches.grad = None
        out.square().sum().backward()
        results.append([out, patches.grad, *(parameter.grad.clone() for parameter in embedding.parameters())])
    assert "forward" not in vars(embedding)
    for ours, theirs in zip(*reversed(results), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    with patches_as_product(embedding):  # not a single patch: the convolution itself
        assert embedding(torch.randn(1, 3, 4, 8, 8)).shape == (1, 16, 2, 2, 2)


def test_only_a_convolution_over_whole_patches_is_one():
    assert find_patch_embedding(nn.Sequential(nn.Conv3d(3, 4, 2, stride=2))) is not None
    for other in (nn.Conv3d(3, 4, 2), nn.Conv3d(3, 4, 2, stride=2, padding=1), nn.Conv2d(3, 4, 2, stride=2)):
        assert find_patch_embedding(nn.Sequential(other)) is None


def test_a_wrapper_of_a_module_is_put_back():
    module = nn.Linear(2, 2)
    module.forward = wrapper = lambda rows: rows
    with computed_by(module, lambda rows: rows + 1):
        assert module(torch.zeros(1)) == 1
    with pytest.raises(TypeError), computed_by(module, lambda: None):
        module(torch.zeros(1))
    assert module.forward is wrapper


def test_a_frozen_tower_sees_an_image_once(counted, fresh, prompts):
    """Over steps, in rollout and training; the values are those of computing them each time."""
    policy, seen = counted(freeze=("vision", "aligner"))
    other = fresh(freeze=("vision", "aligner"))
    once = sum(len(prompt.pixel_inputs["pixel_values"]) for prompt in prompts[:2])
    for step in range(3):
        groups = rollout(policy, prompts, SAMPLING, seed=step)
        ours = gradients(policy, groups)
        other.features = type(other.features)()
        theirs = gradients(other, groups)
        assert torch.equal(ours[0], theirs[0])
        assert all(torch.equal(ours[1][name], theirs[1][name]) for name in theirs[1])
        assert ours[1].keys() == theirs[1].keys()
    assert seen == [once]
    with torch.no_grad():
        next(policy.tower.parameters()).add_(0.01)
    rollout(policy, prompts, SAMPLING, seed=0)
    assert seen == [once, once]


def test_features_of_a_frozen_tower_have_no_graph(counted, prompts):
    """As in ``test_image_features.py``, where the tower is one module."""
    policy, seen = counted(lora={"rank": 2}, gradient_checkpointing=True)
    groups = rollout(policy, prompts, SAMPLING, seed=0)
    policy.features = FeatureStore()
    del seen[:]
    logprobs_S, first = gradients(policy, groups)
    again_S, second = gradients(policy, groups)
    assert torch.equal(logprobs_S, again_S)
    assert first
    assert all(torch.equal(second[name], gradient) for name, gradient in first.items())
    assert len(seen) == 1


def test_features_live_as_long_as_their_pixels(counted, policy, picture):
    frozen, seen = counted(freeze=("vision", "aligner"))
    for _ in range(2):
        rollout(frozen, [policy.processor.encode("find the red circle", [picture(0)])], SAMPLING, seed=0)
    assert len(seen) == 2
    assert len(frozen.features._kept) == 0


def test_a_trained_tower_is_not_remembered(counted, prompts):
    policy, seen = counted()
    groups = rollout(policy, prompts, SAMPLING, seed=0)
    gradients(policy, groups)
    gradients(policy, groups)
    assert len(seen) == 3


def test_training_goes_on_from_the_graph_of_the_rollout(counted, fresh, prompts):
    """One pass less, the same gradients; once only, and only for images that were there."""
    policy, seen = counted()
    groups = rollout(policy, prompts, SAMPLING, seed=0, graph="vision")
    assert not any(c.logprobs_T.requires_grad for group in groups for c in group.completions)
    ours, theirs = gradients(policy, groups), gradients(fresh(), groups)
    assert len(seen) == 1
    assert (ours[0] - theirs[0]).abs().max() <= 1e-6
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        assert (ours[1][name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name
    gradients(policy, groups)
    assert len(seen) == 2

    rollout(policy, prompts[1:], SAMPLING, seed=0, graph="vision")
    gradients(policy, groups)
    assert len(seen) == 4
    some = rollout(policy, prompts, SAMPLING, seed=0, graph="vision")[1:]
    ours, theirs = gradients(policy, some), gradients(fresh(), some)
    assert len(seen) == 5
    for name, gradient in theirs[1].items():
        assert (ours[1][name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_a_rollout_forgets_the_graph_of_the_one_before(counted, prompts):
    policy, seen = counted()
    groups = rollout(policy, prompts, SAMPLING, seed=0, graph="vision")
    rollout(policy, [replace(prompts[2])], SAMPLING, seed=0)
    with torch.no_grad():
        policy.patch_embedding.weight.mul_(2)
    gradients(policy, groups)
    assert len(seen) == 2
