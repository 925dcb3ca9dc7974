"""Families whose features come of several modules: images pass tower and projector as seldom as for the others."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scoring import scored
from torch import nn

from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.families import part_of
from curr_reft.policy.features import FeatureStore
from curr_reft.policy.image_features import known_images
from curr_reft.policy.load import Policy, load_policy
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import PackedImages, pack
from curr_reft.policy.rollout import rollout

PROJECTED = ("idefics3", "internvl", "llava_next", "llava_onevision", "smolvlm")
SAMPLING = SamplingConfig(group_size=2, max_new_tokens=5)


@pytest.fixture(params=PROJECTED)
def counted(request, folders):
    """``counted(**options)``: a policy, and a list that grows by the size of what each pass of its tower reads."""

    def build(**options):
        policy, seen = load_policy(ModelConfig(path=str(folders(request.param)), **options)), []
        layer = next(
            module
            for name, module in policy.core.named_modules()
            if isinstance(module, nn.Linear) and part_of(f"{name}.", policy.family) == "vision"
        )
        layer.register_forward_hook(lambda module, args, output: seen.append(args[0].numel()))
        return policy, seen

    return build


def ask(policy: Policy, picture):
    """Two images of different size, twice; the second of them under other words before the image; and text alone."""
    encode = policy.processor.encode
    first = encode("find the red circle", [picture(0, 84, 84), picture(1, 56, 112)])
    again = replace(encode("list the objects", [picture(0, 84, 84), picture(1, 56, 112)]), image_end=0)
    return [
        first,
        encode("how many red", [picture(2, 112, 60)]),
        encode("how many red plus how many blue"),
        replace(again, pixel_inputs=first.pixel_inputs),
    ]


def gradients(policy: Policy, groups):
    return scored(policy, packed_logprobs(policy, pack(groups, policy.family)))


def assert_same(ours, theirs):
    assert (ours[0] - theirs[0]).abs().max() <= 1e-5
    assert ours[1].keys() == theirs[1].keys()
    whole = torch.cat([gradient.flatten() for gradient in theirs[1].values()]).norm()
    for name, gradient in theirs[1].items():
        assert (ours[1][name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6 * whole, name


def test_a_frozen_tower_sees_an_image_once(counted, picture):
    """Over steps, in rollout and training; also when others are asked about some of the images."""
    policy, seen = counted(freeze=("vision", "aligner"))
    other, _ = counted(freeze=("vision", "aligner"))
    prompts = ask(policy, picture)
    for step in range(2):
        groups = rollout(policy, prompts, SAMPLING, seed=step)
        ours = gradients(policy, groups)
        other.features = FeatureStore()
        assert_same(ours, gradients(other, groups))
    rollout(policy, prompts[2:], SAMPLING, seed=2)
    assert len(seen) == 1
    with torch.no_grad():
        policy.vision_parameters[-1].add_(0.01)
    rollout(policy, prompts, SAMPLING, seed=0)
    assert seen == [seen[0]] * 2


def test_features_of_a_frozen_tower_have_no_graph(counted, picture):
    """With adapters and gradient checkpointing peft makes what enters the tower require gradients. Kept features with
    that graph could serve one backward only, which would run through the tower for nothing."""
    policy, seen = counted(lora={"rank": 2}, gradient_checkpointing=True)
    groups = rollout(policy, ask(policy, picture), SAMPLING, seed=0)
    policy.features = FeatureStore()  # supervised training asks without a rollout before it
    del seen[:]
    first = gradients(policy, groups)
    assert_same(gradients(policy, groups), first)
    assert len(seen) == 1


def test_a_projector_that_is_trained_is_not_remembered(counted, picture):
    policy, seen = counted(freeze=("vision",))
    groups = rollout(policy, ask(policy, picture), SAMPLING, seed=0)
    gradients(policy, groups)
    gradients(policy, groups)
    assert len(seen) == 3


def test_training_goes_on_from_the_graph_of_the_rollout(counted, picture):
    policy, seen = counted()
    prompts = ask(policy, picture)
    groups = rollout(policy, prompts, SAMPLING, seed=0, graph="vision")
    assert not any(c.logprobs_T.requires_grad for group in groups for c in group.completions)
    ours, theirs = gradients(policy, groups), gradients(counted()[0], groups)
    assert len(seen) == 1
    assert {part_of(name, policy.family) for name in ours[1]} == {"vision", "aligner", "language"}
    assert_same(ours, theirs)
    gradients(policy, groups)  # a graph serves once
    assert len(seen) == 2
    assert "get_image_features" not in vars(policy.core.model)


@pytest.mark.parametrize("listed", [False, True])
def test_features_listed_by_rows_of_the_batch_are_those_of_one_tensor(listed: bool) -> None:
    """As Idefics3 and SmolVLM give them: transformers 5.17 one tensor of all tiles, 5.23 a list with an entry a row."""
    tiles = torch.arange(6 * 3 * 2.0).reshape(6, 3, 2)  # tiles, tokens of a tile, width

    class Inner(nn.Module):
        def get_image_features(self, pixel_values: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(pooler_output=[tiles.flatten(0, 1)] if listed else tiles)

    pixels = torch.zeros(1, 6, 3, 4, 4)
    images = PackedImages(
        inputs={"pixel_values": pixels}, shown={}, sources=(pixels[:, :4], pixels[:, 4:]), entries=(1, 0, 1),
        pieces=(4, 2), counts=(),
    )  # fmt: skip
    model = Inner()
    with known_images(model, [], FeatureStore(), images, graph=False):
        shown = model.get_image_features(pixels).pooler_output
    assert torch.equal(shown.reshape(-1, 2), torch.cat([tiles[4:], tiles[:4], tiles[4:]]).flatten(0, 1))
