"""Base models as they are downloaded, and adapters on them as plain peft saves them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import published_folder
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

from curr_reft.export.base import complete


@dataclass(frozen=True)
class Adapted:
    """A base, an adapter on it, and the model of both in memory."""

    base: Path
    adapter: Path
    model: Any


def load(folder: Path, dtype: str = "auto") -> Any:
    """By the official class; no weight may be missing or too many."""
    core, info = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return core.eval()


def adapt(base: Path, folder: Path, **settings: Any) -> Adapted:
    """A trained adapter, as far as numbers go: none of its matrices is zero."""
    torch.manual_seed(1)
    defaults: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    model = get_peft_model(load(base), LoraConfig(**{**defaults, **settings}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(folder)
    return Adapted(base, folder, model.eval())


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's folder as its publisher's repository looks, in bfloat16; written once."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = published_folder(family, tmp_path_factory.mktemp(family) / "Base-3B-Instruct")
            (made[family] / "LICENSE").write_text("Apache-2.0")
        return made[family]

    return folder


@pytest.fixture(scope="session")
def in_float32(published: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same in float32, where a merged model and its adapter can be compared closely."""

    def folder(family: str) -> Path:
        path = tmp_path_factory.mktemp(f"{family}-float32")
        load(published(family), "float32").save_pretrained(path)
        complete(path, published(family), "float32")
        return path

    return folder
