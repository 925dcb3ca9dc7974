"""The packed row against the plain computation that defines it: log-probabilities and gradients."""

from dataclasses import replace

import pytest
import torch

from curr_reft.errors import TrainingError
from curr_reft.policy import logprobs, selfcheck
from curr_reft.policy.config import LoraConfig, SamplingConfig
from curr_reft.policy.decode import DecodeLayout
from curr_reft.policy.logprobs import packed_logprobs, packed_scores, plain_logprobs
from curr_reft.policy.packing import pack, split_groups
from curr_reft.policy.rollout import rollout


def both(policy, groups, temperature=1.0):
    """Log-probabilities and gradients of the packed and the plain computation of one weighted sum."""
    total = sum(completion.length for group in groups for completion in group.completions)
    weights = torch.linspace(-1, 2, total)
    results = []
    for compute in (
        lambda: packed_logprobs(policy, pack(groups, policy.family), temperature),
        lambda: torch.cat([plain_logprobs(policy, group, temperature) for group in groups]),
    ):
        policy.model.zero_grad()
        values = compute()
        (values * weights).sum().backward()
        gradients = [p.grad.clone() for p in policy.training_parameters() if p.grad is not None]
        results.append((values.detach(), gradients))
    policy.model.zero_grad()
    return results


def assert_equal(packed, plain):
    assert (packed[0] - plain[0]).abs().max() <= 1e-5
    assert len(packed[1]) == len(plain[1]) > 0
    for ours, theirs in zip(packed[1], plain[1], strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_checkpointing": True},
        {"freeze": ("vision",)},
        {"lora": LoraConfig(rank=4)},
        {"lora": LoraConfig(rank=4), "gradient_checkpointing": True},
    ],
    ids=["full", "checkpointing", "frozen vision", "lora", "lora checkpointing"],
)
def test_packed_equals_plain(fresh, groups, options):
    torch.manual_seed(0)  # of adapters
    policy = fresh(**options)
    if "lora" in options:  # B starts at zero: without this the adapter would not be tested
        with torch.no_grad():
            for name, parameter in policy.model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.05)
    assert_equal(*both(policy, groups))


def test_temperature_and_single_token_completions(policy, groups):
    assert_equal(*both(policy, groups, temperature=0.7))
    short = [replace(group, completions=group.completions[1:2]) for group in groups[:1]]
    assert_equal(*both(policy, short))


def test_a_wrong_position_fails_the_check(policy, groups):
    batch = pack(groups, policy.family)
    right = packed_logprobs(policy, batch)
    shifted = batch.positions_AL.clone()
    place = batch.scored_S[batch.token_S > 0]
    shifted[:, place] += 1
    wrong = packed_logprobs(policy, replace(batch, positions_AL=shifted))
    assert (right - wrong).abs().max() > 1e-2


def test_a_neighbouring_completion_is_not_seen(policy, groups):
    """Another completion of the group, or another group, changes nothing."""
    alone = packed_logprobs(policy, pack([replace(groups[0], completions=groups[0].completions[2:])], policy.family))
    batch = pack(groups, policy.family)
    among = packed_logprobs(policy, batch)[(batch.group_S == 0) & (batch.completion_S == 2)]
    assert (alone - among).abs().max() <= 1e-5


def test_prompts_that_share_an_image(fresh, prompts, groups):
    """The vision tower runs once for a shared image, and the gradients are those of two passes."""
    policy = fresh()
    second = replace(groups[1], prompt=groups[0].prompt)
    shared = [groups[0], groups[2], second, groups[1]]
    rows = []
    policy.core.model.visual.patch_embed.register_forward_hook(lambda module, args, output: rows.append(len(output)))
    packed, plain = both(policy, shared)
    assert rows[0] == sum(len(prompts[i].pixel_inputs["pixel_values"]) for i in (0, 1))
    assert_equal(packed, plain)


def test_chunked_head(fresh, groups, monkeypatch):
    """A vocabulary too large for all scored tokens at once: same values, same gradients, and the entropy."""
    policy = fresh()
    whole = packed_scores(policy, pack(groups, policy.family))
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", policy.vocabulary_size * 4)
    chunked = packed_scores(policy, pack(groups, policy.family))
    assert torch.allclose(whole.logprobs_S, chunked.logprobs_S, atol=1e-6)
    assert torch.allclose(whole.entropy_S, chunked.entropy_S, atol=1e-5)
    assert whole.entropy_S.min() > 0
    assert_equal(*both(policy, groups))


def test_plain_policy_computes_the_same_batch(fresh, policy, groups):
    batch = pack(groups, policy.family)
    plain = packed_logprobs(fresh(packed=False), batch)
    assert (plain - packed_logprobs(policy, batch)).abs().max() <= 1e-5


def test_reference_is_the_model_without_its_adapter(fresh, policy, groups):
    tuned = fresh(lora=LoraConfig(rank=4))
    with torch.no_grad():
        for name, parameter in tuned.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    batch = pack(groups, policy.family)
    with tuned.reference() as reference:
        at_reference = packed_logprobs(reference, batch)
    base = packed_logprobs(policy, batch)
    assert (at_reference - base).abs().max() <= 1e-6
    assert (packed_logprobs(tuned, batch) - base).abs().max() > 1e-3


def test_mapping_and_micro_batches(policy, groups):
    batch = pack(groups, policy.family)
    for n, group in enumerate(groups):
        for g, completion in enumerate(group.completions):
            mine = (batch.group_S == n) & (batch.completion_S == g)
            assert batch.targets_S[mine].tolist() == completion.tokens_T.tolist()
            assert batch.token_S[mine].tolist() == list(range(completion.length))
    assert batch.length == sum(g.prompt.length + sum(c.length - 1 for c in g.completions) for g in groups)

    assert split_groups(groups, batch.length) == [groups]
    assert split_groups(groups, 1) == [[group] for group in groups]
    two = split_groups(groups, batch.length - 1)
    assert [group for part in two for group in part] == groups
    assert len(two) == 2


def test_self_check(policy, prompts):
    for group in rollout(policy, prompts, SamplingConfig(group_size=2, max_new_tokens=8), seed=0):
        assert selfcheck.check_packed(policy, group) < 1e-5
    assert policy.model.training


def shifted(groups, family):
    """Completions one place too far from their prompt."""
    batch = pack(groups, family)
    positions_AL = batch.positions_AL.clone()
    positions_AL[:, batch.scored_S[batch.token_S > 0]] += 1
    return replace(batch, positions_AL=positions_AL)


def visible(groups, family):
    """Completions that see the tokens after them."""
    batch = pack(groups, family)
    layout = replace(batch.layout)
    layout._mask = lambda repeats, dtype: torch.zeros((1, 1, 1, 1), dtype=dtype)
    return replace(batch, layout=layout)


@pytest.mark.parametrize("wrong", [shifted, visible])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_self_check_stops_a_wrong_packing(fresh, prompts, monkeypatch, wrong, dtype):
    policy = fresh(dtype=dtype)
    group = rollout(policy, prompts[:1], SamplingConfig(group_size=2, max_new_tokens=8), seed=0)[0]
    selfcheck.check_packed(policy, group)
    monkeypatch.setattr(selfcheck, "pack", wrong)
    with pytest.raises(TrainingError, match=r"packed row differs .* set model\.packed to false"):
        selfcheck.check_packed(policy, group)
    policy.kernel = lambda *args: torch.zeros_like(args[0])  # flash-attention that computes nothing
    with pytest.raises(TrainingError, match=r"packed row differs .* set model\.attention to sdpa, or model\.packed"):
        selfcheck.check_packed(policy, group)


def test_self_check_stops_wrong_sampling(policy, prompts, monkeypatch):
    right = DecodeLayout.attend_rows
    monkeypatch.setattr(DecodeLayout, "attend_rows", lambda self, *states: right(self, *states[:-1], 2 * states[-1]))
    group = rollout(policy, prompts[:1], SamplingConfig(group_size=2, max_new_tokens=8), seed=0)[0]
    with pytest.raises(TrainingError, match="sampling differs"):
        selfcheck.check_packed(policy, group)


def test_under_ddp(fresh, groups, tmp_path):
    """The model is called once, so a wrapper around it sees every parameter."""
    policy = fresh()
    values, gradients = both(policy, groups)[0]
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:
        policy.model = torch.nn.parallel.DistributedDataParallel(policy.model)
        wrapped, wrapped_gradients = both(policy, groups)[0]
    finally:
        torch.distributed.destroy_process_group()
    assert torch.equal(values, wrapped)
    assert all(torch.equal(a, b) for a, b in zip(gradients, wrapped_gradients, strict=True))
