"""Recorded decode steps against the steps as they are launched, and ends that are looked at one step late.

On the CPU a recorded step runs the same function on the same buffers: everything but the capture itself is held here.
"""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from curr_reft.policy import replayed
from curr_reft.policy.buckets import Bucket, count_bucket, prefix_bucket, suffix_bucket
from curr_reft.policy.config import LoraConfig, ModelConfig, SamplingConfig
from curr_reft.policy.graphs import StepGraphs
from curr_reft.policy.load import load_policy
from curr_reft.policy.packing import pack
from curr_reft.policy.rollout import rollout

SAMPLING = SamplingConfig(group_size=4, max_new_tokens=12)


@pytest.fixture(params=[False, True], ids=["ends at once", "ends late"])
def late(request, monkeypatch):
    monkeypatch.setattr("curr_reft.policy.rows.looks_late", lambda device: request.param)
    return request.param


@pytest.fixture(scope="module")
def ending(model_folder):
    """A policy that often ends early, so that rows leave the batch at different steps."""
    policy = load_policy(model_folder)
    policy.token_bias_V[policy.end_ids[0]] = 2.0
    return policy


def recording(policy):
    """The same policy with recorded steps."""
    return replace(policy, graphs=StepGraphs(policy.device))


def assert_same(policy, recorded, prompts, sampling, seed=3):
    """Tokens equal, log-probabilities to rounding; returns the lengths."""
    theirs, ours = (rollout(each, prompts, sampling, seed=seed) for each in (policy, recorded))
    a, b = pack(theirs, policy.family), pack(ours, policy.family)
    assert torch.equal(a.targets_S, b.targets_S)
    assert (a.sampled_logprobs_S - b.sampled_logprobs_S).abs().max() <= 1e-5
    for mine, yours in zip(ours, theirs, strict=True):
        assert [c.truncated for c in mine.completions] == [c.truncated for c in yours.completions]
        assert [c.text for c in mine.completions] == [c.text for c in yours.completions]
    return [completion.length for group in ours for completion in group.completions]


@pytest.mark.parametrize("group_size", [4, 5], ids=["full rectangle", "places without a row"])
def test_replayed_steps_are_those_launched(ending, prompts, late, group_size):
    recorded = recording(ending)
    sampling = SAMPLING.model_copy(update={"group_size": group_size, "max_new_tokens": 40})
    lengths = assert_same(ending, recorded, prompts, sampling)
    assert len(set(lengths)) > 3  # ragged
    shapes = {(bucket.groups, bucket.width) for bucket in recorded.graphs._steps}
    assert len(shapes) > 1  # rows left
    assert recorded.graphs.captured == len(recorded.graphs._steps)


def test_a_completion_outgrows_its_buffer(ending, prompts, late, monkeypatch):
    monkeypatch.setattr("curr_reft.policy.buckets.LEAST_SUFFIX", 4)
    recorded = recording(ending)
    assert max(assert_same(ending, recorded, prompts, SAMPLING.model_copy(update={"max_new_tokens": 40}))) > 16
    assert {bucket.suffix for bucket in recorded.graphs._steps} >= {4, 8, 16}


def test_late_ends_change_nothing_without_graphs_either(ending, prompts, monkeypatch):
    sampling = SAMPLING.model_copy(update={"max_new_tokens": 40})
    at_once = rollout(ending, prompts, sampling, seed=5)
    monkeypatch.setattr("curr_reft.policy.rows.looks_late", lambda device: True)
    late = rollout(ending, prompts, sampling, seed=5)
    a, b = (pack(groups, ending.family) for groups in (at_once, late))
    assert torch.equal(a.targets_S, b.targets_S)
    assert (a.sampled_logprobs_S - b.sampled_logprobs_S).abs().max() <= 1e-5


def test_recorded_steps_serve_later_rollouts_and_new_weights(fresh, prompts):
    policy = fresh()
    recorded = recording(policy)
    before = recorded_once = None
    for seed in (1, 2, 3):
        assert_same(policy, recorded, prompts, SAMPLING, seed=seed)
        if recorded_once is None:
            before, recorded_once = recorded.graphs.captured, recorded.graphs._buffers
        with torch.no_grad():  # as an optimizer does
            for parameter in policy.core.get_decoder().parameters():
                parameter.mul_(1.05)
    assert recorded.graphs.captured == before > 0
    assert recorded.graphs._buffers is recorded_once


def test_fewer_and_longer_prompts_use_what_is_there_or_more_room(ending, prompts):
    recorded = recording(ending)
    for part in (prompts[1:2], prompts, prompts[2:], prompts * 2):
        assert_same(ending, recorded, part, SAMPLING)


def test_more_and_shorter_answers_get_places_of_their_own(ending, prompts, monkeypatch):
    """Their keys fit into the memory that was there; their tokens and logits do not."""
    monkeypatch.setattr("curr_reft.policy.buckets.LEAST_SUFFIX", 4)
    recorded = recording(ending)
    for group_size, tokens in ((2, 17), (8, 5)):
        sampling = SAMPLING.model_copy(update={"group_size": group_size, "max_new_tokens": tokens})
        assert_same(ending, recorded, prompts, sampling)


def test_weights_that_moved_are_recorded_anew(fresh, prompts):
    policy = fresh()
    recorded = recording(policy)
    assert_same(policy, recorded, prompts, SAMPLING)
    first = recorded.graphs.captured
    layer = policy.core.get_decoder().layers[0].mlp.down_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach() * 2)  # elsewhere; nothing old may be read
    assert_same(policy, recorded, prompts, SAMPLING)
    assert recorded.graphs.captured > first


def test_adapters_are_part_of_the_step(fresh, prompts):
    policy = fresh(lora=LoraConfig(rank=4))
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05, generator=drawn)
    recorded = recording(policy)
    assert_same(policy, recorded, prompts, SAMPLING)
    first = recorded.graphs.captured
    with policy.reference() as reference:  # the adapter is off: what was recorded says something else
        assert_same(reference, replace(reference, graphs=recorded.graphs), prompts, SAMPLING)
    assert recorded.graphs.captured > first


def test_what_is_not_recorded(fresh, prompts, monkeypatch):
    """Models whose modules are called, sharded ones, one token, and buffers that are too large decode as ever."""
    policy = recording(fresh())
    hook = policy.core.get_decoder().layers[0].register_forward_hook(lambda module, args, output: None)
    rollout(policy, prompts, SAMPLING, seed=0)
    hook.remove()
    rollout(policy, prompts, SAMPLING.model_copy(update={"max_new_tokens": 1}), seed=0)
    sharded = replace(policy, sharding=SimpleNamespace(gathered=nullcontext))  # weights lie elsewhere every time
    rollout(sharded, prompts, SAMPLING, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(replayed, "MOST_BYTES", 1000)
        rollout(policy, prompts, SAMPLING, seed=0)
    assert policy.graphs.captured == 0
    rollout(policy, prompts, SAMPLING, seed=0)
    assert policy.graphs.captured > 0


def test_what_a_masked_place_held_does_not_matter(ending, prompts):
    """Numbers of an earlier rollout, or no numbers at all, in the buffers."""
    recorded = recording(ending)
    assert_same(ending, recorded, prompts, SAMPLING)
    for pair in recorded.graphs._buffers._suffix.values():
        for states in pair:
            with torch.inference_mode():
                states.fill_(float("nan"))
    assert_same(ending, recorded, prompts, SAMPLING)


def test_the_step_that_was_used_last_is_kept(ending, prompts, monkeypatch):
    monkeypatch.setattr("curr_reft.policy.graphs.MOST_STEPS", 1)
    recorded = recording(ending)
    for _ in range(2):
        assert_same(ending, recorded, prompts, SAMPLING.model_copy(update={"max_new_tokens": 40}))
        assert len(recorded.graphs._steps) == 1
    # Rows leave, and the second rollout begins with all of them again; in between a step serves all tokens of a shape.
    assert 4 <= recorded.graphs.captured <= 20


def test_sizes_of_buckets():
    assert [count_bucket(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13)] == [1, 2, 3, 4, 6, 6, 8, 8, 12, 12, 16]
    assert [prefix_bucket(n) for n in (1, 64, 65, 300, 1050, 2049)] == [64, 64, 128, 320, 1152, 2304]
    assert [suffix_bucket(n) for n in (1, 64, 65, 300)] == [64, 64, 128, 512]
    for n in range(1, 3000):
        assert n <= count_bucket(n) <= 1.5 * n
        assert n <= prefix_bucket(n) <= max(1.125 * n, n + 63)


def test_the_key_decides_and_a_cpu_has_no_graphs(model_folder):
    assert load_policy(ModelConfig(path=str(model_folder), cuda_graphs="auto")).graphs is None


def test_a_smaller_bucket_lies_in_the_memory_of_a_larger_one(ending, prompts):
    recorded = recording(ending)
    rollout(recorded, prompts, SAMPLING, seed=0)
    buffers = recorded.graphs._buffers
    small = Bucket(groups=1, width=1, prefix=64, suffix=64)
    view, largest = buffers.view(small), buffers.view(next(iter(recorded.graphs._steps)))
    for layer, pair in view.prefix.items():
        assert pair[0].data_ptr() == largest.prefix[layer][0].data_ptr()
