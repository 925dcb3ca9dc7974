"""Loading is strict, saving gives a folder for from_pretrained, and only what should train trains."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoTokenizer

from curr_reft.errors import CheckpointError, UsageError
from curr_reft.policy.config import LoraConfig, ModelConfig, SamplingConfig
from curr_reft.policy.load import load_policy, save_policy
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack


def test_round_trip_is_bit_equal(policy, groups, picture, tmp_path):
    save_policy(policy, tmp_path / "model")
    plain, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = policy.core.state_dict()
    assert {name: value.tolist() for name, value in plain.state_dict().items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    again = load_policy(tmp_path / "model")
    batch = pack(groups, policy.family)
    assert torch.equal(packed_logprobs(again, batch), packed_logprobs(policy, batch))
    assert again.end_ids == policy.end_ids
    assert torch.equal(again.token_bias_V, policy.token_bias_V)
    one, two = (each.processor.encode("find the red circle", [picture(3, 70, 84)]) for each in (policy, again))
    assert one.input_ids_P.tolist() == two.input_ids_P.tolist()
    assert torch.equal(one.pixel_inputs["pixel_values"], two.pixel_inputs["pixel_values"])


def test_saved_folder_names_the_official_classes(policy, tmp_path):
    """What other tools read: no class and no attention of ours."""
    save_policy(policy, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert "curr_reft" not in "".join(file.read_text() for file in tmp_path.glob("*.json"))
    assert json.loads((tmp_path / "processor_config.json").read_text())["processor_class"] == "Qwen2_5_VLProcessor"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert "<|im_start|>assistant" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "list the objects"}], tokenize=False, add_generation_prompt=True
    )


def test_lora_is_merged_into_what_is_saved(fresh, groups, tmp_path):
    policy = fresh(lora=LoraConfig(rank=4))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    save_policy(policy, tmp_path)
    for name, value in policy.model.state_dict().items():  # merging and taking it out again rounds
        assert torch.allclose(value, before[name], atol=1e-6), name
    batch = pack(groups, policy.family)
    assert (packed_logprobs(load_policy(tmp_path), batch) - packed_logprobs(policy, batch)).abs().max() <= 3e-5


def _with_weights(folder, target, change):
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(next(name for name in w if "q_proj.weight" in name)), r"missing keys: .*q_proj\.weight \(1\)"),
        (lambda w: w.update(stray=torch.zeros(2)), r"unexpected keys: stray \(1\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(model_folder, tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        load_policy(_with_weights(model_folder, tmp_path / "broken", change))


def test_a_weight_of_another_shape_is_refused(model_folder, tmp_path):
    def cut(weights):
        name = next(name for name in weights if "q_proj.bias" in name)
        weights[name] = weights[name][:-1].clone()

    with pytest.raises(CheckpointError, match=r"cannot be loaded|mismatched keys"):
        load_policy(_with_weights(model_folder, tmp_path / "broken", cut))


def test_a_path_that_is_nothing(tmp_path):
    with pytest.raises(UsageError, match="neither a model folder nor a hub name"):
        load_policy(tmp_path / "nowhere")


@pytest.mark.parametrize("part", ["vision", "aligner", "language"])
def test_frozen_parts_are_not_trained(fresh, part):
    policy = fresh(freeze=(part,))
    frozen = {name for name, parameter in policy.model.named_parameters() if not parameter.requires_grad}
    belongs = {
        "vision": lambda name: "visual" in name and "merger" not in name,
        "aligner": lambda name: "merger" in name,
        "language": lambda name: "visual" not in name,
    }[part]
    assert frozen == {name for name, _ in policy.model.named_parameters() if belongs(name)}
    total = sum(1 for _ in policy.model.parameters())
    assert len(policy.training_parameters()) == total - len(frozen) > 0


def test_lora_trains_the_adapters_of_the_language_model_alone(fresh):
    policy = fresh(lora=LoraConfig(rank=4, targets=("q_proj", "gate_proj")))
    trained = [name for name, parameter in policy.model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 3 * 2 * 2  # layers x targets x (A, B)
    assert all("lora_" in name and "language_model" in name for name in trained)  # the vision MLP has a gate_proj too
    with pytest.raises(UsageError, match="no linear layer of the language model is called nothing"):
        fresh(lora=LoraConfig(targets=("nothing",)))


def test_a_folder_without_its_processor(model_folder, tmp_path):
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        shutil.copy(model_folder / name, tmp_path)
    with pytest.raises(UsageError, match=r"the processor of .* cannot be loaded"):
        load_policy(tmp_path)


def test_lora_without_peft(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        fresh(lora=LoraConfig())


def test_bfloat16(fresh, groups):
    policy = fresh(dtype="bfloat16")
    values = packed_logprobs(policy, pack(groups, policy.family))
    assert values.dtype == torch.float32
    assert next(policy.core.parameters()).dtype == torch.bfloat16
    values.sum().backward()


def test_pixel_bounds_reach_images_frame_and_saved_folder(fresh, picture, tmp_path):
    policy = fresh(max_pixels=3200)
    assert policy.processor.encode("list the objects", [picture(0)]).pixel_inputs["image_grid_thw"].tolist() == [
        [1, 4, 4]
    ]
    assert policy.frame.fit((84, 84)) == (56, 56)
    save_policy(policy, tmp_path)
    assert load_policy(tmp_path).frame.fit((84, 84)) == (56, 56)
    with pytest.raises(UsageError, match="must not be above"):
        fresh(min_pixels=10_000, max_pixels=1_000)


def test_device_that_is_not_there(fresh):
    with pytest.raises(UsageError, match=r"model\.device: 'cuda:99'"):
        fresh(device="cuda:99")


@pytest.mark.parametrize(
    "bad",
    [{"dtype": "float16"}, {"freeze": ("head",)}, {"lora": {"rank": 0}}, {"pach": "x"}, {"lora": {"targets": ()}}],
)
def test_config_refuses(bad):
    with pytest.raises(ValidationError):
        ModelConfig(**bad)


def test_config_imports_nothing_heavy_and_describes_every_field():
    for section in (ModelConfig, SamplingConfig, LoraConfig):
        assert all(field.description for field in section.model_fields.values())
    code = "import sys, curr_reft.policy.config; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
