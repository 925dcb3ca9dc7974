"""Micro-batches by tokens: as told, or as many as fit; the number found is kept."""

from dataclasses import replace

import pytest
import tiny_run
import torch

from curr_reft.errors import TrainingError, UsageError
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import group_tokens, pack
from curr_reft.policy.rollout import rollout
from curr_reft.recipe import load_recipe
from curr_reft.train import token_budget
from curr_reft.train.token_budget import LEAST, MOST, TokenBudget, backward_bytes, free_memory


@pytest.fixture
def sampled(fresh, grpo):
    """A policy and three groups."""
    policy = fresh()
    objective = grpo(policy)
    prompts = [policy.processor.encode_question(question) for question in objective.sampler.draw(1)]
    return policy, rollout(policy, prompts, objective.sampling, seed=0)


def test_a_number_is_what_it_says(sampled):
    policy, groups = sampled
    assert len(TokenBudget(16_384).split(policy, groups)) == 1
    assert len(TokenBudget(64).split(policy, groups)) == 3
    assert TokenBudget(64).state_dict() == {}


def test_auto_takes_what_fits(sampled):
    policy, groups = sampled
    largest = max(groups, key=group_tokens)
    to_come = sum(12 * parameter.numel() for parameter in policy.training_parameters())
    for whole_groups in (1, 2, 3):
        needed = whole_groups * backward_bytes(policy, largest) * token_budget.MORE / token_budget.USED
        budget = TokenBudget("auto", free_bytes=lambda _, needed=needed: int(needed * 1.001) + to_come)
        alone = replace(largest, prompt=replace(largest.prompt, image_end=0))  # shares nothing with its like
        parts = budget.split(policy, [alone] * 3)
        assert [len(part) for part in parts] == [[1, 1, 1], [2, 1], [3]][whole_groups - 1]
    nothing, plenty = (TokenBudget("auto", free_bytes=lambda _, free=free: free) for free in (0, 1 << 60))
    nothing.split(policy, groups)
    plenty.split(policy, groups)
    assert (nothing.tokens, plenty.tokens) == (LEAST, MOST)


def test_what_is_counted_is_what_backward_needs(sampled, fresh):
    """About proportional to tokens, without the parameters, and less with gradient checkpointing."""
    policy, groups = sampled
    group = groups[0]
    twice = replace(group, completions=group.completions * 2)
    once, more = backward_bytes(policy, group), backward_bytes(policy, twice)
    parameters = sum(p.numel() * p.element_size() for p in policy.model.parameters())
    assert once < more < 2 * once
    assert not policy.model.training or policy.model.train()
    small = backward_bytes(policy, replace(group, completions=group.completions[:1]))
    assert small < parameters  # 5 MB of weights are read and not counted
    assert backward_bytes(fresh(gradient_checkpointing=True), group) < once / 2


def test_counting_changes_nothing(sampled):
    policy, groups = sampled
    before = packed_logprobs(policy, pack(groups, policy.family))
    backward_bytes(policy, groups[0])
    assert torch.equal(packed_logprobs(policy, pack(groups, policy.family)), before)
    assert all(parameter.grad is None for parameter in policy.training_parameters())


def test_a_resumed_run_cuts_as_before(fresh, grpo, monkeypatch):
    monkeypatch.setattr(token_budget, "free_memory", lambda _: 1 << 40)
    first = grpo(fresh(), micro_batch_tokens="auto")
    assert first.state_dict()["micro_batch_tokens"] is None
    assert len(first.prepare(1).micro_batches) == 1
    found = first.state_dict()
    assert found["micro_batch_tokens"] == first.tokens.tokens > 1000
    monkeypatch.setattr(token_budget, "free_memory", lambda _: 0)  # a fuller machine
    resumed, fuller = (grpo(fresh(), micro_batch_tokens="auto") for _ in range(2))
    resumed.load_state_dict(found)
    assert len(resumed.prepare(2).micro_batches) == 1
    assert len(fuller.prepare(2).micro_batches) > 1


def test_free_memory(monkeypatch, tmp_path):
    free = free_memory(torch.device("cpu"))
    assert 1 << 20 < free < 1 << 50
    monkeypatch.setattr(token_budget, "Path", lambda _: tmp_path / "none")
    with pytest.raises(TrainingError, match="set it to a number of tokens"):
        free_memory(torch.device("cpu"))


def test_the_recipe_says_a_number_or_auto():
    flag = "--rl.micro_batch_tokens"
    assert load_recipe(tiny_run.RECIPE, [flag, "auto"]).rl.micro_batch_tokens == "auto"
    for wrong in ("63", "automatic"):
        with pytest.raises(UsageError, match="micro_batch_tokens"):
            load_recipe(tiny_run.RECIPE, [flag, wrong])
