"""The lean decode step: where it is taken, with adapters and large models, and when rows leave unevenly."""

import pytest
import torch

from curr_reft.policy import lean
from curr_reft.policy.config import LoraConfig, SamplingConfig
from curr_reft.policy.decode import DecodeLayout
from curr_reft.policy.lean import find_lean
from curr_reft.policy.packing import pack
from curr_reft.policy.rollout import rollout

SAMPLING = SamplingConfig(group_size=4, max_new_tokens=12)


def drawn(policy, prompts, monkeypatch, find):
    monkeypatch.setattr("curr_reft.policy.advance.find_lean", find)
    return pack(rollout(policy, prompts, SAMPLING, seed=2), policy.family)


def assert_same(policy, prompts, monkeypatch):
    ours, theirs = (drawn(policy, prompts, monkeypatch, find) for find in (find_lean, lambda core: None))
    assert torch.equal(ours.targets_S, theirs.targets_S)
    assert (ours.sampled_logprobs_S - theirs.sampled_logprobs_S).abs().max() <= 1e-5
    return ours


def test_with_adapters(fresh, policy, prompts, monkeypatch):
    tuned = fresh(lora=LoraConfig(rank=4))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in tuned.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    assert find_lean(tuned.core) is not None
    ours = assert_same(tuned, prompts, monkeypatch)
    plain = drawn(policy, prompts, monkeypatch, find_lean)
    assert not torch.equal(ours.targets_S, plain.targets_S)  # the adapter says something else


@pytest.mark.parametrize(
    ("joined", "turned"), [(0, 0), (1 << 40, 1 << 40), (1 << 40, 0)], ids=["separate", "joined", "turned"]
)
def test_projections_joined_or_not(policy, prompts, monkeypatch, joined, turned):
    monkeypatch.setattr(lean, "JOINED_BYTES", joined)
    monkeypatch.setattr(lean, "TURNED_BYTES", turned)
    layer, width = find_lean(policy.core).layers[0], policy.core.get_input_embeddings().embedding_dim
    copies = [
        cell.cell_contents
        for projection in (layer.queries_keys_values, layer.gate_up)
        for cell in projection.__closure__
        if isinstance(cell.cell_contents, torch.Tensor) and cell.cell_contents.dim() == 2
    ]
    # As they lie in the module outputs are the rows, turned inputs are.
    assert [each.shape.index(width) for each in copies] == ([] if joined == 0 else [0, 0] if turned == 0 else [1, 1])
    own = policy.core.get_decoder().layers[0]
    assert (layer.down is own.mlp.down_proj) == (layer.out is own.self_attn.o_proj) == (len(copies) == 0 or turned > 0)
    assert_same(policy, prompts, monkeypatch)


def test_whatever_is_not_known_takes_the_models_own_modules(fresh):
    policy = fresh()
    text = policy.core.get_decoder()
    handle = text.layers[1].mlp.register_forward_hook(lambda module, args, output: output * 2)
    assert find_lean(policy.core) is None
    handle.remove()
    assert find_lean(policy.core) is not None
    for change in ({"model_type": "granite"}, {"hidden_act": "gelu"}):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in change.items():
                patch.setattr(text.config, name, value)
            assert find_lean(policy.core) is None


def test_the_step_sees_the_weights_of_now(fresh, prompts, monkeypatch):
    policy = fresh()
    before = drawn(policy, prompts, monkeypatch, find_lean)
    with torch.no_grad():
        for parameter in policy.core.get_decoder().parameters():
            parameter.mul_(1.1)
    after = assert_same(policy, prompts, monkeypatch)
    assert not torch.equal(before.targets_S, after.targets_S)


def test_rows_leave_unevenly():
    """Attention of the rows that are left is that of a batch in which only they ever were."""
    generator = torch.Generator().manual_seed(0)
    N, G, K, R, D, P, T = 3, 4, 2, 3, 8, 5, 6
    lengths_N = torch.tensor([5, 2, 4])
    prefix = {0: tuple(torch.randn((N, K, P, D), generator=generator) for _ in range(2))}
    states = torch.randn((T, N * G, (R + 2) * K, D), generator=generator)
    leaving = {2: [0, 1, 2, 3, 4, 9, 10, 11], 4: [1, 3, 9]}  # before these steps, by first number

    whole, left = (DecodeLayout(prefix, lengths_N, G, T) for _ in range(2))
    active = list(range(N * G))
    for step in range(T):
        if step in leaving:
            left.keep([active.index(row) for row in leaving[step]])
            active = leaving[step]
        results = []
        for layout, rows in ((whole, list(range(N * G))), (left, active)):
            query, key, value = states[step, rows].split((R * K, K, K), dim=1)
            results.append(layout.attend_rows(0, query, key, value, D**-0.5))
            layout.step += 1
        assert torch.allclose(results[1], results[0][active], atol=1e-6)
    assert left.slot_A is not None  # two of the first group, one of the last
