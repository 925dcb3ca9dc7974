"""The shipped model is the one its recipe makes: shape, hashes, and what it can and cannot do."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.video_processing_utils import BaseVideoProcessor

from curr_reft.embedded.build import CARD, PROCESSOR, WEIGHTS, recipe_hash
from curr_reft.embedded.measure import measure
from curr_reft.embedded.tokenizer import vocabulary
from curr_reft.files import read_json, sha256_file

FOLDER = Path(str(resources.files("curr_reft") / "embedded" / "model"))


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return read_json(FOLDER / CARD)


def test_it_was_made_by_the_recipe_in_the_code(card: dict[str, Any]) -> None:
    assert card["recipe_sha256"] == recipe_hash(), "the recipe changed: run `curr-reft base build` and ship its result"


def test_the_weights_are_those_of_the_card_and_small(card: dict[str, Any]) -> None:
    assert card["weights_sha256"] == sha256_file(FOLDER / WEIGHTS)
    assert (FOLDER / WEIGHTS).stat().st_size < 4e6


def test_it_loads_as_the_real_class_without_our_code(card: dict[str, Any]) -> None:
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(FOLDER, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert sum(parameter.numel() for parameter in model.parameters()) == card["parameters"]
    assert model.dtype == torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    assert sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__) == vocabulary()
    assert "<|im_start|>assistant" in tokenizer.chat_template


def test_the_official_processor_finds_what_it_asks_for() -> None:
    """Its class wants settings of videos too. It cannot be built here, without torchvision."""
    settings, _ = BaseVideoProcessor.get_video_processor_dict(FOLDER)
    assert settings["video_processor_type"] == "Qwen2VLVideoProcessor"
    assert settings["patch_size"] == read_json(FOLDER / PROCESSOR)["image_processor"]["patch_size"]


def test_it_is_weak_greedily_and_above_chance_in_all_nine_cells_by_sampling(card: dict[str, Any]) -> None:
    """The card was measured on 100 items a task; here fewer are measured again."""
    recorded = {(cell["task"], cell["form"]): cell for cell in card["validation"]["cells"]}
    assert len(recorded) == 9
    assert not [key for key, cell in recorded.items() if cell["low"] <= cell["chance"]]
    found = measure(FOLDER, items=40)
    for cell in found["cells"]:
        before = recorded[cell["task"], cell["form"]]
        spread = (before["high"] - before["low"]) / 2 + (cell["high"] - cell["low"]) / 2
        assert abs(cell["pass_rate"] - before["pass_rate"]) <= spread, (cell, before)
    assert card["validation"]["greedy"]["open"]["score"] <= 0.4  # latent by design: room for post-training
    assert found["greedy"]["open"]["score"] == pytest.approx(card["validation"]["greedy"]["open"]["score"], abs=0.12)
