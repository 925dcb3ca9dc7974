"""``curr-reft merge``: what comes out is the base's folder with other numbers, and computes what the adapter did."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from adapted import Adapted, adapt, load
from PIL import Image
from published_layouts import PUBLISHED
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from curr_reft.cli import main
from curr_reft.errors import CheckpointError, UsageError
from curr_reft.export import merge as merging
from curr_reft.export.base import complete, layout, other_files
from curr_reft.export.merge import merge
from curr_reft.export.source import find_source
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.families import family_of, image_marks
from curr_reft.policy.load import load_chat_processor

Folders = Callable[[str], Path]
FAMILIES = ("qwen2_5_vl", "smolvlm")


def logits(model: Any, core: Any, folder: Path) -> torch.Tensor:
    """Of one prompt with a picture."""
    processor = load_chat_processor(ModelConfig(path=str(folder), packed=False))
    prompt = processor.encode("How many circles are there?", [Image.new("RGB", (70, 60), (200, 30, 30))])
    ids = prompt.input_ids_P[None]
    marks = image_marks(family_of(core.config), core, ids)
    with torch.no_grad():
        return model(input_ids=ids, **prompt.pixel_inputs, **marks).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_rslora": True, "rank_pattern": {"q_proj": 2}}])
def test_a_merged_folder_computes_what_the_adapter_did(
    in_float32: Folders, tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    own = adapt(in_float32(family), tmp_path / "adapter", **settings)
    merge(find_source(own.adapter), tmp_path / "out")
    merged = load(tmp_path / "out")
    expected = logits(own.model, own.model.get_base_model(), own.base)
    assert torch.allclose(logits(merged, merged, tmp_path / "out"), expected, atol=1e-5)
    base = load(own.base)
    assert (logits(base, base, own.base) - expected).abs().max() > 0.05  # the adapter does something


@pytest.fixture(scope="module")
def on_bfloat16(published: Folders, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Adapted]:
    """An adapter on the base as it was published."""
    made: dict[str, Adapted] = {}

    def adapted(family: str) -> Adapted:
        if family not in made:
            made[family] = adapt(published(family), tmp_path_factory.mktemp("adapter"))
        return made[family]

    return adapted


@pytest.mark.parametrize("family", FAMILIES)
def test_the_folder_has_every_file_of_the_base_and_its_layout(
    on_bfloat16: Callable[[str], Adapted], tmp_path: Path, family: str
) -> None:
    """Names and shapes of the weights as published: what an inference engine that reads the base's files expects."""
    own = on_bfloat16(family)
    merge(find_source(own.adapter), tmp_path / "out")
    for path in other_files(own.base):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name
    assert {path.name for path in other_files(own.base)} >= {"config.json", "tokenizer.json", "LICENSE"}
    assert layout(tmp_path / "out") == layout(own.base)
    vocabulary, expected = (
        AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (tmp_path / "out", own.base)
    )
    assert vocabulary == expected


def test_sums_are_formed_in_float32_and_rounded_once(on_bfloat16: Callable[[str], Adapted], tmp_path: Path) -> None:
    own = on_bfloat16("qwen2_5_vl")
    merge(find_source(own.adapter), tmp_path / "out")
    merged, base = load(tmp_path / "out").state_dict(), load(own.base).state_dict()
    change = load_file(own.adapter / "adapter_model.safetensors")
    changed = 0
    for name, weight in base.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in change:
            up, down = change[f"{stem}.lora_B.weight"].float(), change[f"{stem}.lora_A.weight"].float()
            expected = (weight.float() + up @ down * (6 / 4)).to(torch.bfloat16)
            changed += 1
        else:
            expected = weight
        assert torch.equal(merged[name], expected), name
    assert changed == len(change) // 2 > 5


def test_large_weights_come_in_shards_with_an_index(
    on_bfloat16: Callable[[str], Adapted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert merging.SHARD == "5GB"
    own = on_bfloat16("qwen2_5_vl")
    merge(find_source(own.adapter), tmp_path / "whole")
    monkeypatch.setattr(merging, "SHARD", "100KB")
    merge(find_source(own.adapter), tmp_path / "shards")
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    assert set(index["weight_map"]) == set(layout(own.base))
    one, other = load(tmp_path / "whole").state_dict(), load(tmp_path / "shards").state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_what_training_changed_is_written_anew(published: Folders, tmp_path: Path) -> None:
    base = published("qwen2_5_vl")
    (tmp_path / "config.json").write_text("{}")  # what transformers wrote goes
    (tmp_path / "processor_config.json").write_text("{}")
    complete(tmp_path, base, "float32", {"max_pixels": 9408})
    assert {path.name for path in other_files(tmp_path)} == {path.name for path in other_files(base)}
    rewritten = [path.name for path in other_files(base) if path.read_bytes() != (tmp_path / path.name).read_bytes()]
    assert rewritten == ["config.json", "preprocessor_config.json"]
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (base, tmp_path))
    assert after == {**before, "torch_dtype": "float32"}
    before, after = (json.loads((folder / "preprocessor_config.json").read_text()) for folder in (base, tmp_path))
    assert after == {**before, "max_pixels": 9408}
    assert load_chat_processor(ModelConfig(path=str(tmp_path), packed=False)).frame.fit((560, 560)) == (84, 84)


def test_nothing_is_overwritten_and_nothing_half_done_is_left(
    on_bfloat16: Callable[[str], Adapted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = on_bfloat16("qwen2_5_vl")
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="is there already and is not overwritten"):
        merge(find_source(own.adapter), tmp_path / "out")
    monkeypatch.setattr(merging, "check_layout", lambda *_: (_ for _ in ()).throw(CheckpointError("layout")))
    with pytest.raises(CheckpointError, match="layout"):
        merge(find_source(own.adapter), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_card_of_an_adapter_says_what_is_known(on_bfloat16: Callable[[str], Adapted], tmp_path: Path) -> None:
    own = on_bfloat16("smolvlm")
    merge(find_source(own.adapter), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    for expected in ("Base-3B-Instruct with an adapter", "- rank: 4", "down_proj, q_proj, v_proj", "do not say"):
        assert expected in text
    assert str(own.base.parent) not in text


def changed(
    own: Adapted,
    folder: Path,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = dict,
    **settings: Any,
) -> Path:
    """A copy of the adapter with other settings, or with ``change`` of its weights."""
    folder.mkdir()
    config = json.loads((own.adapter / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **settings}))
    save_file(change(load_file(own.adapter / "adapter_model.safetensors")), folder / "adapter_model.safetensors")
    return folder


PREFIX = "base_model.model."


def old_name(family: str, name: str) -> str:
    """A module, as transformers called it when the family's repository was published."""
    for pattern, replacement in PUBLISHED[family].renamed:
        name = re.sub(pattern, replacement, name)
    return name


def with_old_names(family: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {PREFIX + old_name(family, name.removeprefix(PREFIX)): value for name, value in weights.items()}


OLD_FAMILIES = ("qwen2_vl", "qwen2_5_vl", "internvl", "llava_onevision", "gemma3")


@pytest.mark.parametrize("family", OLD_FAMILIES)
@pytest.mark.parametrize("targets", ["bare names", "a pattern", "paths"])
def test_an_adapter_with_the_names_of_its_time_merges_as_one_with_those_of_today(
    on_bfloat16: Callable[[str], Adapted], tmp_path: Path, family: str, targets: str
) -> None:
    """Before 4.52 the language model of Qwen2-VL was ``model``, that of LLaVA ``language_model.model``."""
    own = on_bfloat16(family)
    modules = sorted(
        old_name(family, name.removeprefix(PREFIX).partition(".lora_")[0])
        for name in load_file(own.adapter / "adapter_model.safetensors")
    )
    settings: dict[str, Any] = {}
    if targets == "a pattern":
        settings = {"target_modules": f"^({'|'.join(map(re.escape, modules))})$"}
    elif targets == "paths":
        scales = {re.escape(name): 6 for name in modules}
        settings = {"target_modules": modules, "alpha_pattern": scales, "lora_alpha": 99}
    folder = changed(own, tmp_path / "adapter", lambda weights: with_old_names(family, weights), **settings)
    assert f"{PREFIX}{modules[0]}.lora_A.weight" in load_file(folder / "adapter_model.safetensors")
    merge(find_source(folder), tmp_path / "old")
    merge(find_source(own.adapter), tmp_path / "new")
    ours, expected = load(tmp_path / "old").state_dict(), load(tmp_path / "new").state_dict()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def not_finite(value: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        next(tensor for name, tensor in weights.items() if "layers.1.self_attn.q_proj.lora_B" in name)[0, 0] = value
        return weights

    return change


def scaled(by: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {name: value * by for name, value in weights.items()}


def without_effect(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As peft saves an adapter before its first update."""
    return {name: value * (0 if "lora_B" in name else 1) for name, value in weights.items()}


def of_another_model(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.replace(PREFIX, PREFIX + "transformer.h."): value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (not_finite(float("nan")), 1, r"adapter_model.safetensors: \S+layers.1.self_attn.q_proj.lora_B.weight holds"),
        (not_finite(float("-inf")), 1, r"layers.1.self_attn.q_proj.lora_B.weight holds NaN or infinite"),
        (scaled(1e25), 1, r"merged weight \S+proj.weight holds NaN or infinite values, though"),
        (without_effect, 2, "changes no weight of .* so that the merged model would be the base"),
        (scaled(1e-9), 2, "below the precision"),
        (scaled(0), 2, "every lora_B is 0"),
        (of_another_model, 1, "does not fit"),
        (lambda weights: {"x": torch.zeros(1)}, 1, "does not fit"),
    ],
)
def test_a_broken_model_and_a_base_under_another_name_are_never_written(
    on_bfloat16: Callable[[str], Adapted],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    code: int,
    message: str,
) -> None:
    folder = changed(on_bfloat16("qwen2_5_vl"), tmp_path / "adapter", change)
    assert main(["merge", str(folder), "--out", str(tmp_path / "out")]) == code
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_not_finite_is_named_with_its_file(
    on_bfloat16: Callable[[str], Adapted], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = on_bfloat16("qwen2_5_vl")
    base = tmp_path / "base"
    shutil.copytree(own.base, base)
    *_, last = sorted(base.glob("*.safetensors"))
    weights = load_file(last)
    name = min(weights)
    weights[name].view(-1)[0] = float("inf")
    save_file(weights, last, metadata={"format": "pt"})
    assert main(["merge", str(own.adapter), "--base", str(base), "--out", str(tmp_path / "out")]) == 1
    assert f"{last}: {name} holds NaN or infinite values" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_model_name_or_path": None}, "names no base model"),
        ({"base_model_name_or_path": "/nowhere/at-all"}, "base model /nowhere/at-all: the folder holds no config.json"),
        ({"peft_type": "IA3"}, "peft_type IA3 is not LORA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save .* is not merged here"),
        ({"bias": "all"}, "bias 'all' is not merged here"),
    ],
)
def test_adapters_that_are_refused(
    on_bfloat16: Callable[[str], Adapted], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    folder = changed(on_bfloat16("qwen2_5_vl"), tmp_path / "adapter", **settings)
    with pytest.raises(UsageError, match=message):
        merge(find_source(folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_adapter_of_another_base_or_with_pickled_weights_is_refused(
    on_bfloat16: Callable[[str], Adapted], published: Folders, tmp_path: Path
) -> None:
    own = on_bfloat16("qwen2_5_vl")
    with pytest.raises(CheckpointError, match="does not fit"):
        merge(find_source(own.adapter, base=str(published("smolvlm"))), tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"does not fit .*lora_A"):
        merge(find_source(changed(own, tmp_path / "more", target_modules=["q_proj"])), tmp_path / "out")
    folder = changed(own, tmp_path / "pickled")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(UsageError, match="pickled"):
        find_source(folder)


def test_what_is_nothing_to_merge_is_refused(
    published: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", str(published("qwen2_5_vl")), "--out", str(tmp_path / "out")]) == 2
    assert "neither a run directory" in capsys.readouterr().err
