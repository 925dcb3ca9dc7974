"""Several images, one and none in one batch, for every family: each prompt gets what it gets alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image

from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.families import part_of
from curr_reft.policy.load import Policy, load_policy
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import EncodedPrompt, Group

SAMPLING = SamplingConfig(group_size=2, max_new_tokens=5)
Picture = Callable[..., Image.Image]


@pytest.fixture(scope="module", params=sorted(tiny_models.CONFIGS))
def policy(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder: Path = tiny_models.build_folder(tmp_path_factory.mktemp(request.param), request.param)
    return load_policy(ModelConfig(path=str(folder), packed=request.param in tiny_models.EXACT))


def mixed(policy: Policy, picture: Picture) -> list[EncodedPrompt]:
    """None, three of different sizes and ways round, one, none."""
    encode = policy.processor.encode
    return [
        encode("how many red plus how many blue"),
        encode("find the red circle", [picture(0, 84, 84), picture(1, 56, 112), picture(2, 112, 40)]),
        encode("list the objects", [picture(3, 60, 60)]),
        encode("how many red"),
    ]


def sampled(policy: Policy, prompts: list[EncodedPrompt], seeds: list[list[int]]) -> list[Group]:
    return rollout(policy, prompts, SAMPLING, seeds)


def test_a_prompt_gets_in_a_mixed_batch_what_it_gets_alone(policy: Policy, picture: Picture) -> None:
    prompts = mixed(policy, picture)
    seeds = [[10 * n, 10 * n + 1] for n in range(len(prompts))]
    together = sampled(policy, prompts, seeds)
    alone = [sampled(policy, [prompt], [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    with torch.no_grad():
        batch = packed_logprobs(policy, pack(together, policy.family))
        single = torch.cat([packed_logprobs(policy, pack([group], policy.family)) for group in alone])
    for one, other in zip(together, alone, strict=True):
        for ours, theirs in zip(one.completions, other.completions, strict=True):
            assert ours.tokens_T.tolist() == theirs.tokens_T.tolist()
            assert (ours.logprobs_T - theirs.logprobs_T).abs().max() <= 2e-5
    assert (batch - single).abs().max() <= 2e-5


def test_the_order_of_images_and_every_one_of_them_counts(policy: Policy, picture: Picture) -> None:
    """The three images of a prompt are all seen, and each at its place."""
    first, second = picture(0, 84, 84), picture(1, 84, 84)
    images = ([first, second, second], [second, first, second], [first, second, first])
    prompts = [policy.processor.encode("find the red circle", each) for each in images]
    tokens_T = policy.completion_tokens("red")
    made = sampled(policy, prompts[:1], [[0, 1]])[0]
    given = tuple(replace(each, tokens_T=tokens_T, logprobs_T=torch.zeros(len(tokens_T))) for each in made.completions)
    groups = [Group(prompt=prompt, completions=given[:1]) for prompt in prompts]
    with torch.no_grad():
        values = packed_logprobs(policy, pack(groups, policy.family)).view(3, -1)
    differences = [(values[a] - values[b]).abs().max() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(differences) > 1e-3


def test_text_alone_trains_the_language_model_alone(policy: Policy, picture: Picture) -> None:
    prompts = [prompt for prompt in mixed(policy, picture) if not prompt.pixel_inputs]
    for chosen, parts in ((prompts, {"language"}), (mixed(policy, picture), {"language", "aligner", "vision"})):
        policy.model.zero_grad(set_to_none=True)
        groups = sampled(policy, chosen, [[n, n + 9] for n in range(len(chosen))])
        packed_logprobs(policy, pack(groups, policy.family)).sum().backward()
        moved = {
            part_of(n, policy.family) for n, p in policy.core.named_parameters() if p.grad is not None and p.grad.any()
        }
        assert moved == parts
        assert all(p.grad is None or p.grad.isfinite().all() for p in policy.core.parameters())
