"""Log-probabilities in parts, and the gate as one operation, against what torch computes written out."""

import pytest
import torch
import torch.nn.functional as F

from curr_reft.policy import target_logprobs as module
from curr_reft.policy.config import LoraConfig
from curr_reft.policy.gates import _GateDown, _SiluGate, gates_as_one
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
    weight, bias = (torch.randn(size, dtype=torch.float64, requires_grad=True) for size in ((4, 5), (4,)))
    assert torch.autograd.gradcheck(_GateDown.apply, (gate, up, weight, bias))
    assert torch.autograd.gradcheck(_GateDown.apply, (gate, up, weight, None))


@pytest.mark.parametrize("frozen", ["nothing", "weights", "inputs"])
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
def test_the_gate_with_its_linear_layer_gives_the_bits_of_torch(frozen, with_bias):
    """What is asked of it, of rows in one axis or two."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int, frozen: bool) -> torch.Tensor:
        return torch.randn(shape, generator=generator).requires_grad_(not frozen)

    for shape in ((37, 48), (1, 37, 48)):
        gate, up = (leaf(*shape, frozen=frozen == "inputs") for _ in range(2))
        weight = leaf(24, 48, frozen=frozen == "weights")
        bias = leaf(24, frozen=frozen == "weights") if with_bias else None
        given = [each for each in (gate, up, weight, bias) if each is not None and each.requires_grad]
        ours, theirs = _GateDown.apply(gate, up, weight, bias), F.linear(F.silu(gate) * up, weight, bias)
        assert torch.equal(ours, theirs)
        flowing = torch.randn(ours.shape, generator=generator)
        for one, other in zip(*(torch.autograd.grad(out, given, flowing) for out in (ours, theirs)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("adapted", [False, True], ids=["plain", "an adapter behind the gate"])
def test_gated_layers_keep_less(fresh, adapted):
    core = fresh(lora=LoraConfig(rank=4, targets=("down_proj",)) if adapted else None).core
    mlp = core.get_decoder().layers[0].mlp
    rows = torch.randn(4, mlp.gate_proj.in_features, requires_grad=True)

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
    # What silu puts out; its product with up, too, where the layer behind it is what its class says.
    assert now == before - 4 * mlp.gate_proj.out_features * (1 if adapted else 2)
    assert gated == core.get_decoder().config.num_hidden_layers + core.model.visual.config.depth
    assert not any("forward" in vars(each) for each in core.modules())


def test_gated_layers_under_autocast(fresh):
    """As TRL's trainer calls them with bf16: gate and up are bfloat16, the layer behind them is not."""
    core = fresh().core
    mlp = core.get_decoder().layers[0].mlp
    rows = torch.randn(4, mlp.gate_proj.in_features)

    def computed() -> list[torch.Tensor]:
        core.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = mlp(rows)
        out.float().square().sum().backward()
        return [out.detach(), *(each.grad.clone() for each in mlp.parameters())]

    plain = computed()
    with gates_as_one(core):
        ours = computed()
    for one, other in zip(ours, plain, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= 2e-2 * other.norm()
