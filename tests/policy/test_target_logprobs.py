"""Log-probabilities in parts, and the gate as one operation, against what torch computes written out."""

import pytest
import torch
import torch.nn.functional as F

from curr_reft.policy import target_logprobs as module
from curr_reft.policy.gates import _SiluGate, gates_as_one
from curr_reft.policy.logprobs import policy_logits
from curr_reft.policy.target_logprobs import target_logprobs


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("at_once", [1, 64, 1 << 18], ids=["a row", "some rows", "all"])
def test_they_are_those_of_cross_entropy(monkeypatch, temperature, dtype, at_once):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((7, 33), generator=generator).to(dtype)
    targets = torch.randint(0, 30, (7,), generator=generator)
    weights = torch.randn(7, generator=generator)
    bias = torch.zeros(33)
    bias[30:] = torch.finfo(torch.float32).min  # never sampled
    found = []
    for compute in (
        lambda logits: target_logprobs(logits, targets, bias, temperature),
        lambda logits: -F.cross_entropy(policy_logits(logits, bias, temperature), targets, reduction="none"),
    ):
        leaf = logits.clone().requires_grad_()
        logprobs = compute(leaf)
        (logprobs * weights).sum().backward()
        found.append((logprobs.detach(), leaf.grad))
    (ours, our_gradient), (theirs, their_gradient) = found
    assert ours.dtype == torch.float32
    assert our_gradient.dtype == dtype
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(our_gradient, their_gradient, atol=1e-6 if dtype == torch.float32 else 1e-2)
    assert our_gradient[:, 30:].abs().max() == 0


def test_the_derivative_of_the_gate_is_right():
    gate, up = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(_SiluGate.apply, (gate, up))
    assert torch.equal(_SiluGate.apply(gate, up), F.silu(gate) * up)


def test_gated_layers_keep_less(fresh):
    core = fresh().core
    mlp = core.get_decoder().layers[0].mlp
    rows = torch.randn(4, mlp.gate_proj.in_features)

    def kept() -> tuple[torch.Tensor, int]:
        numbers = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: numbers.append(t.numel()) or t, lambda t: t):
            out = mlp(rows)
        return out, sum(numbers)

    plain, before = kept()
    with gates_as_one(core):
        ours, now = kept()
        gated = sum("forward" in vars(each) for each in core.modules())
    assert torch.equal(plain, ours)
    assert now == before - 4 * mlp.gate_proj.out_features
    assert gated == core.get_decoder().config.num_hidden_layers + core.model.visual.config.depth
    assert not any("forward" in vars(each) for each in core.modules())
