"""Adapters: which layers they come to, what is saved of them, and how a model in 4 bits is handed on."""

import importlib.util
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from curr_reft.errors import CheckpointError, UsageError
from curr_reft.policy import adapters
from curr_reft.policy.config import LoraConfig, ModelConfig
from curr_reft.policy.families import FAMILIES, part_of
from curr_reft.policy.load import Policy, load_policy, save_policy
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack

PARTS = ("vision", "aligner", "language")
SUBSETS = [each for size in range(4) for each in itertools.combinations(PARTS, size)]


def trained_parts(policy: Policy) -> set[str]:
    """Parts with a parameter that is trained."""
    return {
        part_of(name.removeprefix("base_model.model."), policy.family)
        for name, parameter in policy.model.named_parameters()
        if parameter.requires_grad
    }


def asked(**options: Any) -> ModelConfig:
    return ModelConfig(path="anything", **options)


@pytest.mark.parametrize("freeze", SUBSETS, ids="+".join)
def test_every_combination_of_frozen_and_adapted_parts(policy: Policy, freeze: tuple[str, ...]) -> None:
    """Adapters come to the parts that are to have some and are not frozen; a combination without any is refused."""
    for parts in SUBSETS[1:]:
        left = set(parts) - set(freeze)
        if left:
            layers = adapters.adapter_layers(
                policy.core, policy.family, asked(freeze=freeze, lora=LoraConfig(parts=parts))
            )
            assert {part_of(f"{name}.", policy.family) for name in layers} == left
            assert "lm_head" not in layers
        else:
            with pytest.raises(ValidationError, match="is in freeze, so nothing would be trained"):
                asked(freeze=freeze, lora=LoraConfig(parts=parts))
    if len(freeze) == 3:
        with pytest.raises(ValidationError, match="every part is frozen"):
            asked(freeze=freeze)


@pytest.mark.parametrize("freeze", [("vision", "language"), ("aligner",)], ids="+".join)
def test_what_is_frozen_is_not_trained_with_adapters_or_without(
    fresh: Callable[..., Policy], freeze: tuple[str, ...]
) -> None:
    assert trained_parts(fresh(freeze=freeze)) == set(PARTS) - set(freeze)
    policy = fresh(freeze=freeze, lora=LoraConfig(rank=2, parts=PARTS))
    assert trained_parts(policy) == set(PARTS) - set(freeze)
    assert all("lora_" in name for name, p in policy.model.named_parameters() if p.requires_grad)


def shaken(policy: Policy) -> Policy:
    """Its adapter says something."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.training_parameters():
            parameter.add_((0.05 * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype))
    return policy


def scores(policy: Policy, groups: Any) -> torch.Tensor:
    with torch.no_grad():
        return packed_logprobs(policy, pack(groups, policy.family))


KINDS = {
    "lora": {},
    "scaled for its rank": {"rslora": True, "rank": 16},
    "dora": {"dora": True},
    "in every part": {"parts": PARTS},
    "dora in every part": {"parts": PARTS, "dora": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_the_adapted_model(
    fresh: Callable[..., Policy], groups: Any, tmp_path: Path, kind: str
) -> None:
    policy = fresh(lora=LoraConfig(**{"rank": 4, **KINDS[kind]}))
    before = scores(policy, groups)
    after = scores(shaken(policy), groups)
    assert (after - before).abs().max() > 1e-2
    held = {name: value.clone() for name, value in policy.model.state_dict().items()}
    save_policy(policy, tmp_path)
    assert all(torch.equal(value, held[name]) for name, value in policy.model.state_dict().items())
    assert (scores(load_policy(tmp_path), groups) - after).abs().max() <= 3e-5
    assert not (tmp_path / adapters.ADAPTER).exists()


def test_weights_in_bfloat16_are_merged_once_and_rounded_once(
    fresh: Callable[..., Policy], tmp_path: Path, groups: Any
) -> None:
    policy = shaken(fresh(lora=LoraConfig(rank=4), dtype="bfloat16"))
    save_policy(policy, tmp_path)
    saved = load_policy(ModelConfig(path=str(tmp_path), dtype="bfloat16")).core.state_dict()
    layer = policy.core.model.language_model.layers[0].self_attn.q_proj
    exact = layer.base_layer.weight.float() + layer.get_delta_weight("default").float()
    assert torch.equal(saved["model.language_model.layers.0.self_attn.q_proj.weight"], exact.bfloat16())


def test_targets_are_those_of_the_family(fresh: Callable[..., Policy]) -> None:
    policy = fresh(lora=LoraConfig(rank=2))
    found = {n.rpartition(".lora_A")[0].rpartition(".")[2] for n, _ in policy.model.named_parameters() if "lora_A" in n}
    assert found == set(FAMILIES["qwen2_5_vl"].lora_targets)
    tower = fresh(lora=LoraConfig(rank=2, parts=("vision",), targets=("qkv",)))
    assert all(".qkv." in n for n, p in tower.model.named_parameters() if p.requires_grad)


@pytest.fixture
def as_if_4_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """4-bit models as they are handed on, without the rounding: what bitsandbytes would do is left out."""
    monkeypatch.setattr("curr_reft.policy.load.four_bits", lambda *_: {})
    monkeypatch.setattr("transformers.PreTrainedModel.is_quantized", True, raising=False)
    monkeypatch.setattr("transformers.PretrainedConfig.quantization_config", None, raising=False)
    monkeypatch.setattr("curr_reft.policy.load._without_bits", lambda config: config)


@pytest.mark.usefixtures("as_if_4_bit")
def test_a_model_in_4_bits_hands_on_its_adapter(fresh: Callable[..., Policy], groups: Any, tmp_path: Path) -> None:
    """The next stage begins with the base in 4 bits and the adapter as it was, bit for bit; its reference is that."""
    options = {"quantize": "nf4", "lora": LoraConfig(rank=4, dora=True)}
    first = fresh(**options)
    base = scores(first, groups)
    after = scores(shaken(first), groups)
    save_policy(first, tmp_path / "one")
    assert (scores(load_policy(tmp_path / "one"), groups) - after).abs().max() <= 3e-5  # merged, for others

    second = load_policy(ModelConfig(path=str(tmp_path / "one"), **options))
    assert torch.equal(scores(second, groups), after)
    later = scores(shaken(second), groups)
    assert (later - after).abs().max() > 1e-3
    with second.reference() as reference:
        assert torch.equal(scores(reference, groups), after)
    with first.reference() as reference:
        assert torch.equal(scores(reference, groups), base)
    assert torch.equal(scores(second, groups), later)

    save_policy(second, tmp_path / "two")
    third = load_policy(ModelConfig(path=str(tmp_path / "two"), **options))
    assert torch.equal(scores(third, groups), later)
    unadapted = options | {"lora": None}
    asked = ModelConfig(path=str(tmp_path / "two"), **options).model_copy(update=unadapted)  # as evaluation does
    assert torch.equal(scores(load_policy(asked), groups), later)

    with pytest.raises(CheckpointError, match=r"does not fit|is not that of model\.lora"):
        load_policy(ModelConfig(path=str(tmp_path / "one"), quantize="nf4", lora=LoraConfig(rank=8, dora=True)))
    with pytest.raises(CheckpointError, match=r"is not that of model\.lora"):
        load_policy(ModelConfig(path=str(tmp_path / "one"), quantize="nf4", lora=LoraConfig(rank=4)))
    (tmp_path / "two" / "adapter" / "adapter_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not readable"):
        load_policy(ModelConfig(path=str(tmp_path / "two"), **options))


def test_4_bits_are_refused_before_anything_is_read(tmp_path: Path, model_folder: Path) -> None:
    for file in model_folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    asked = ModelConfig(path=str(tmp_path), device="cpu", quantize="nf4", lora=LoraConfig())
    with pytest.raises(UsageError, match=r"model\.quantize: 'nf4' needs a GPU of Nvidia's \(here: cpu\)"):
        load_policy(asked)
    with pytest.raises(ValidationError, match="weights in 4 bits cannot be trained; set lora"):
        ModelConfig(quantize="nf4")


def test_4_bits_without_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = ModelConfig(quantize="nf4", lora=LoraConfig())
    with pytest.raises(UsageError, match=r"pip install 'curr-reft\[qlora\]'"):
        adapters.four_bits(config, FAMILIES["qwen2_5_vl"], torch.bfloat16, torch.device("cuda"))


@pytest.mark.slow
def test_4_bits_for_real(
    fresh: Callable[..., Policy], groups: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where bitsandbytes is installed, on its CPU kernels: the language model alone is rounded, the adapter trains, and
    what is saved is what was computed with."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(adapters, "FOUR_BIT_DEVICES", {"cpu", "cuda"})
    options: dict[str, Any] = {"quantize": "nf4", "device": "cpu", "lora": LoraConfig(rank=4)}
    policy = fresh(**options)
    layers = [m for m in policy.core.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(layers) == 3 * 7
    rounded = [n for n, m in policy.core.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert {part_of(name, policy.family) for name in rounded} == {"language"}
    whole = scores(fresh(), groups)
    assert 1e-3 < (scores(policy, groups) - whole).abs().mean() < 1.5
    policy.model.train()
    packed_logprobs(policy, pack(groups, policy.family)).sum().backward()
    assert all(p.grad is not None for p in policy.training_parameters())
    after = scores(shaken(policy), groups)
    save_policy(policy, tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    assert (scores(load_policy(tmp_path), groups) - after).abs().max() <= 1e-4
    again = load_policy(ModelConfig(path=str(tmp_path), **options))
    assert torch.equal(scores(again, groups), after)
