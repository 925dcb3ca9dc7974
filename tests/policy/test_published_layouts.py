"""Folders as publishers lay them out are opened as they are, and every weight comes to its place."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import checkpoints
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES
from transformers.video_processing_utils import BaseVideoProcessor

from curr_reft.errors import CheckpointError, UsageError
from curr_reft.policy.config import LoraConfig, ModelConfig
from curr_reft.policy.load import Policy, load_policy, save_policy


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    built: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in built:
            built[family] = checkpoints.published_folder(family, tmp_path_factory.mktemp(family))
        return built[family]

    return folder


def load(folder: Path, family: str) -> Policy:
    return load_policy(ModelConfig(path=str(folder), packed=family != "gemma3"))


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("family", checkpoints.PUBLISHED)
def test_every_weight_comes_to_its_place(published: Callable[[str], Path], family: str) -> None:
    folder, layout = published(family), checkpoints.PUBLISHED[family]
    policy, files = load(folder, family), stored(folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    names = dict.fromkeys(policy.core.state_dict())
    for name in names:
        old = name
        for pattern, replacement in layout.renamed:
            old = re.sub(pattern, replacement, old)
        if layout.tied and name == "lm_head.weight":
            assert old not in files
            old = next(key for key in files if key.endswith("embed_tokens.weight"))
        assert torch.equal(policy.core.state_dict()[name], files[old].float()), name
    head, words = policy.core.get_output_embeddings(), policy.core.get_input_embeddings()
    assert (head.weight is words.weight) == layout.tied
    assert policy.processor.tokenizer.convert_tokens_to_ids(layout.end) in policy.end_ids


@pytest.mark.parametrize("family", checkpoints.PUBLISHED)
def test_any_text_is_asked_and_answered(published: Callable[[str], Path], family: str) -> None:
    policy = load(published(family), family)
    text = "Where is the 犬 — naïve?\n<think> </think>"
    encoded = policy.processor.encode(text, [Image.new("RGB", (70, 98), "red")])
    assert text in policy.processor.decode(encoded.input_ids_P)
    assert policy.processor.decode(policy.completion_tokens(text)) == text


@pytest.mark.parametrize("family", checkpoints.PUBLISHED)
def test_what_is_saved_of_it_is_the_same_model(published: Callable[[str], Path], family: str, tmp_path: Path) -> None:
    policy = load(published(family), family)
    save_policy(policy, tmp_path)
    again = load(tmp_path, family)
    for name, tensor in policy.core.state_dict().items():
        assert torch.equal(again.core.state_dict()[name], tensor), name
    picture = Image.new("RGB", (100, 60), "blue")
    one, two = (each.processor.encode("find it", [picture]) for each in (policy, again))
    assert one.text == two.text
    assert one.input_ids_P.tolist() == two.input_ids_P.tolist()
    assert torch.equal(one.pixel_inputs["pixel_values"], two.pixel_inputs["pixel_values"])
    assert again.end_ids == policy.end_ids
    # AutoProcessor does not open a folder of these families without it, and here it cannot be asked (no torchvision).
    if policy.core.config.model_type in VIDEO_PROCESSOR_MAPPING_NAMES:
        ours, theirs = (
            BaseVideoProcessor.get_video_processor_dict(place)[0] for place in (tmp_path, published(family))
        )
        assert ours == theirs
    else:
        assert not (tmp_path / "video_preprocessor_config.json").exists()


@pytest.mark.parametrize("family", checkpoints.PUBLISHED)
def test_what_is_saved_with_adapters_has_the_same_weights_by_name(
    published: Callable[[str], Path], family: str, tmp_path: Path
) -> None:
    config = ModelConfig(path=str(published(family)), packed=family != "gemma3")
    for name, lora in (("full", None), ("lora", LoraConfig(rank=2))):
        save_policy(load_policy(config.model_copy(update={"lora": lora})), tmp_path / name)
    assert {name: w.shape for name, w in stored(tmp_path / "lora").items()} == {
        name: w.shape for name, w in stored(tmp_path / "full").items()
    }


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """The folder with one file of weights changed, and its index with it."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    file = sorted(folder.glob("model-*.safetensors"))[-1]
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})
    places = {name: place for name, place in index["weight_map"].items() if place != file.name}
    index["weight_map"] = places | dict.fromkeys(weights, file.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl"])
def test_shards_that_do_not_fit_are_refused(family: str, tmp_path: Path) -> None:
    folder = checkpoints.published_folder(family, tmp_path / "lost")
    lost: list[str] = []

    def lose(weights: dict[str, torch.Tensor]) -> None:
        lost.append(sorted(weights)[0])
        del weights[lost[0]]

    rewritten(folder, lose)
    with pytest.raises(CheckpointError, match=r"missing keys: .* \(1\)"):
        load(folder, family)

    more = checkpoints.published_folder(family, tmp_path / "more")
    rewritten(more, lambda weights: weights.update({"visual.stray": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=r"unexpected keys: .*stray \(1\)"):
        load(more, family)

    gone = checkpoints.published_folder(family, tmp_path / "gone")
    sorted(gone.glob("model-*.safetensors"))[0].unlink()
    with pytest.raises((CheckpointError, UsageError), match="model-00001-of"):
        load(gone, family)
