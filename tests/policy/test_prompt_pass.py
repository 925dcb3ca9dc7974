"""Training from the rollout's own pass over the prompts: the same as the whole row, and only where it is the same."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from scoring import scored

from curr_reft.policy import logprobs
from curr_reft.policy import rollout as rolling
from curr_reft.policy.config import LoraConfig, SamplingConfig
from curr_reft.policy.logprobs import packed_logprobs, packed_scores
from curr_reft.policy.packing import pack
from curr_reft.policy.rollout import rollout

SAMPLING = SamplingConfig(group_size=3, max_new_tokens=8)


def assert_same(ours, theirs):
    """Of log-probabilities and gradients."""
    assert (ours[0] - theirs[0]).abs().max() <= 2e-5
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        assert (ours[1][name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-8, name


@pytest.fixture
def row_lengths():
    """``row_lengths(policy)``: a list that grows by the tokens of every call of its language model."""

    def watch(policy):
        seen = []
        policy.core.get_input_embeddings().register_forward_hook(
            lambda module, args, output: seen.append(args[0].numel())
        )
        return seen

    return watch


def both(policy, prompts, row_lengths, choose=lambda groups: groups, sampling=SAMPLING):
    """What is scored of some groups of a rollout whose pass is kept, and without it; tokens of the two forwards."""
    batch = pack(choose(rollout(policy, prompts, sampling, seed=3, graph="prompts")), policy.family)
    seen = row_lengths(policy)
    ours = scored(policy, packed_logprobs(policy, batch))
    theirs = scored(policy, packed_logprobs(policy, batch))  # a pass is handed out once
    return batch, ours, theirs, seen


@pytest.mark.parametrize(
    "choose",
    [lambda groups: groups, lambda groups: groups[:0:-1], lambda groups: groups[1:2]],
    ids=["all", "some, in another order", "the shortest prompt"],
)
def test_completions_alone_are_what_they_are_behind_their_prompts(fresh, prompts, row_lengths, choose):
    batch, ours, theirs, seen = both(fresh(), prompts, row_lengths, choose)
    assert seen == [batch.length - sum(group.prompt.length for group in batch.groups), batch.length]
    assert_same(ours, theirs)
    assert (ours[0] - batch.sampled_logprobs_S).abs().max() <= 1e-5


def test_with_adapters_and_a_frozen_tower(fresh, prompts, row_lengths):
    policy = fresh(lora=LoraConfig(rank=4), freeze=("vision", "aligner"))
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    _, ours, theirs, _ = both(policy, prompts, row_lengths)
    assert ours[1]
    assert_same(ours, theirs)


def test_ragged_answers_of_which_some_are_one_token(fresh, prompts, row_lengths):
    def cut(groups):
        lengths = iter([5, 1, 8, 1, 1, 1, 2, 8, 1])
        return [
            replace(group, completions=tuple(shorter(c, next(lengths)) for c in group.completions)) for group in groups
        ]

    batch, ours, theirs, _ = both(fresh(), prompts, row_lengths, cut)
    assert len(batch.targets_S) == 28
    assert_same(ours, theirs)


def test_questions_of_one_image_one_of_them_twice(fresh, prompts, row_lengths):
    """They share a beginning in the rollout's pass; in the update one of them is missing. At a temperature."""
    policy = fresh()
    first = prompts[0]
    second = replace(
        policy.processor.encode("list the objects", [Image.new("RGB", (84, 84)), Image.new("RGB", (56, 112))]),
        pixel_inputs=first.pixel_inputs,
    )
    asked = [first, prompts[1], second, first, replace(second)]
    sampling = SAMPLING.model_copy(update={"temperature": 0.7})
    groups = rollout(policy, asked, sampling, seed=3, graph="prompts")
    batch, seen = pack(groups[:4], policy.family), row_lengths(policy)
    ours, theirs = (scored(policy, packed_logprobs(policy, batch, temperature=0.7)) for _ in range(2))
    assert seen[0] < seen[1] < sum(each.prompt.length for each in groups[:4]) + seen[0]  # which shares it as well
    assert_same(ours, theirs)
    assert (ours[0] - batch.sampled_logprobs_S).abs().max() <= 1e-5


def test_answers_of_one_token_need_no_forward(fresh, prompts, row_lengths):
    _, ours, theirs, seen = both(
        fresh(), prompts, row_lengths, sampling=SAMPLING.model_copy(update={"max_new_tokens": 1})
    )
    assert len(seen) == 1
    assert_same(ours, theirs)


def test_the_head_in_chunks_and_entropy(fresh, prompts, monkeypatch):
    policy = fresh()
    groups = rollout(policy, prompts, SAMPLING, seed=3, graph="prompts")
    batch = pack(groups, policy.family)
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", 7 * policy.vocabulary_size)
    ours, theirs = (packed_scores(policy, batch) for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 2e-5


def test_it_is_for_the_update_alone(fresh, prompts, row_lengths):
    """No use without gradients, for other prompts, after another rollout, or when memory was needed."""
    policy = fresh()
    groups = rollout(policy, prompts, SAMPLING, seed=3, graph="prompts")
    batch, seen = pack(groups, policy.family), row_lengths(policy)
    assert not any(c.logprobs_T.requires_grad for group in groups for c in group.completions)
    with torch.no_grad():
        packed_logprobs(policy, batch)
    assert seen == [batch.length]
    assert policy.prompt_passes.take([group.prompt for group in groups]) is not None

    rollout(policy, prompts, SAMPLING, seed=3, graph="prompts")
    other = [replace(group, prompt=replace(group.prompt)) for group in groups]
    packed_logprobs(policy, pack(other, policy.family))
    rollout(policy, prompts, SAMPLING, seed=3, graph="prompts")
    rollout(policy, prompts[2:], SAMPLING, seed=3)
    assert policy.prompt_passes.take([groups[2].prompt]) is None
    rollout(policy, prompts, SAMPLING, seed=3, graph="prompts")
    policy.drop_graphs()
    del seen[:]
    packed_logprobs(policy, batch)
    assert seen == [batch.length]


def test_what_memory_ran_out_for_is_not_kept_in_parts(fresh, prompts, monkeypatch):
    """A pass over some of the prompts would hold its memory for nothing."""
    policy, draw = fresh(), rolling.sample

    def full(policy, prompts, *args):
        draw(policy, prompts, *args)
        if len(prompts) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rolling, "sample", full)
    rollout(policy, prompts, SAMPLING, seed=3, graph="prompts")
    assert policy.rows_that_fit == 4
    assert policy.prompt_passes.take(prompts[:1]) is None


def shorter(completion, length):
    return replace(completion, tokens_T=completion.tokens_T[:length], logprobs_T=completion.logprobs_T[:length])
