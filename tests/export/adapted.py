"""Models by the official classes, and adapters on them as plain peft saves them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText


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
