"""Adapters on a model: which layers get one, what they weigh once merged, and 4-bit models behind them (peft).

LoRA (Hu et al. 2021, arXiv 2106.09685), DoRA (Liu et al. 2024, arXiv 2402.09353), rank-stabilised scaling
(Kalajdzievski 2023, arXiv 2312.03732), QLoRA (Dettmers et al. 2023, arXiv 2305.14314).

A model in 4 bits cannot hand on merged weights: rounded to 4 bits again, they would lose what was learned, which is
smaller than the steps between 4-bit numbers. So what is saved of it is the merged model, for others, with the adapter
beside it in a folder, for us: the next stage loads the base it began with, in the same 4 bits, and goes on from there.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from curr_reft.errors import CheckpointError, UsageError
from curr_reft.files import read_json
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.families import Family, part_of

ADAPTER = "adapter"
"""Folder beside the merged weights of a model that was trained in 4 bits."""

FOUR_BIT_DEVICES = {"cuda"}  # bitsandbytes computes elsewhere too, but so slowly that nobody would train there

_MARK = "lora_"
_PARTS = {"language": "language model", "vision": "vision tower", "aligner": "aligner"}


@dataclass(frozen=True, kw_only=True)
class Carried:
    """An adapter that was saved beside its merged model."""

    folder: Path
    base: str  # folder or hub name of the model it was trained on, at the recipe's revision


def find_carried(path: str) -> Carried | None:
    """The adapter saved in the model folder ``path``, if there is one. Raises CheckpointError."""
    file = Path(path) / ADAPTER / "adapter_config.json"
    if not file.is_file():
        return None
    try:
        saved = read_json(file)
        return Carried(folder=file.parent, base=saved["base_model_name_or_path"])
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{file} is not readable ({error}); take the model folder from its run again") from error


def adapter_layers(core: nn.Module, family: Family, config: ModelConfig) -> list[str]:
    """Names of the linear layers that get an adapter: those that the recipe names, else the family's, in every part
    that is adapted and not frozen. Raises UsageError where there is none."""
    lora = config.lora
    assert lora is not None
    parts = [part for part in lora.parts if part not in config.freeze]
    head = core.get_output_embeddings()  # type: ignore[operator]
    found = []
    for name, module in core.named_modules():
        if not isinstance(module, nn.Linear) or module is head:
            continue
        part = part_of(f"{name}.", family)
        named = lora.targets or (family.lora_targets if part == "language" else None)
        if part in parts and (named is None or name.rpartition(".")[2] in named):
            found.append(name)
    if not found:
        where = " or ".join(f"the {_PARTS[part]}" for part in parts)
        names = ", ".join(lora.targets or family.lora_targets)
        raise UsageError(f"model.lora.targets: no linear layer of {where} is called {names}")
    return found


def require_peft(config: ModelConfig) -> None:
    """Raises UsageError for a model with adapters where the library that makes them is not installed."""
    if config.lora is not None and importlib.util.find_spec("peft") is None:
        raise UsageError("model.lora: needs the peft library, which is not installed: pip install 'curr-reft[lora]'")


def add_adapter(core: Any, family: Family, config: ModelConfig, carried: Carried | None = None) -> Any:
    """The model with adapters, which alone are trained; their weights are those of ``carried``, or do nothing yet.

    Raises UsageError, CheckpointError.
    """
    require_peft(config)
    from peft import LoraConfig as PeftConfig
    from peft import PeftModel, get_peft_model

    if config.lora is None:
        assert carried is not None
        return PeftModel.from_pretrained(core, carried.folder)
    lora = config.lora
    settings: dict[str, Any] = {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_dora": lora.dora,
        "use_rslora": lora.rslora,
        "target_modules": adapter_layers(core, family, config),
    }
    model = get_peft_model(core, PeftConfig(**settings))
    if carried is not None:
        _restore(model, carried)
    return model


def _restore(model: Any, carried: Carried) -> None:
    from peft import set_peft_model_state_dict

    try:
        result: Any = set_peft_model_state_dict(model, load_file(carried.folder / "adapter_model.safetensors"))
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{carried.folder}: the adapter does not fit: {error}; train with the model.lora it was saved with"
        ) from error
    absent = [name for name in result.missing_keys if _MARK in name]
    if absent or result.unexpected_keys:
        wrong = [*absent, *result.unexpected_keys]
        raise CheckpointError(
            f"{carried.folder}: the adapter is not that of model.lora: {', '.join(wrong[:3])} ({len(wrong)}); train "
            "with the model.lora it was saved with"
        )


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """A copy of the adapter's weights by the names of the model's parameters."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if _MARK in name}


@contextmanager
def exchanged(model: Any, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """While inside, the adapter has these weights; its own come back as they were."""
    own = {name: p.data for name, p in model.named_parameters() if name in weights}
    assert own.keys() == weights.keys()
    parameters = dict(model.named_parameters())
    try:
        for name, value in weights.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value


def merged_state(core: Any) -> dict[str, torch.Tensor]:
    """The weights of the model with its adapters merged in, under its own names. Nothing of the model changes.

    Sums are formed in float32 and rounded once to the number type of the model; weights in 4 bits are spread out first.
    """
    from peft.tuners.lora import LoraLayer

    layers = {name: module for name, module in core.named_modules() if isinstance(module, LoraLayer)}
    state = {}
    copies: dict[int, torch.Tensor] = {}  # tied weights stay one tensor, so that they are saved once
    with torch.no_grad():
        for name, value in core.state_dict().items():
            plain = name.replace(".base_layer.", ".")
            owner, _, kind = plain.rpartition(".")
            if _MARK in name or ".weight." in plain:  # what a 4-bit weight keeps beside it
                continue
            if owner in layers and kind == "weight":
                state[plain] = _merged(layers[owner])
            elif _is_4_bit(value) or (kind == "weight" and _is_4_bit(core.get_submodule(owner).weight)):
                state[plain] = _spread(core.get_submodule(owner))
            else:
                if value.data_ptr() not in copies:
                    copies[value.data_ptr()] = value.detach().clone()
                state[plain] = copies[value.data_ptr()]
    return state


def _merged(layer: Any) -> torch.Tensor:
    weight = _spread(layer.get_base_layer())
    total = weight.float()
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        down, up = layer.lora_A[name].weight.float(), layer.lora_B[name].weight.float()
        change = (up @ down) * layer.scaling[name]
        magnitude = layer.lora_magnitude_vector
        if name in magnitude:  # DoRA: the direction is what changes, the length is learned by itself
            length = magnitude[name].get_weight_norm(total, change, scaling=1)
            total = (magnitude[name].weight.float() / length)[:, None] * (total + change)
        else:
            total = total + change
    return total.to(weight.dtype)


def _is_4_bit(value: Any) -> bool:
    return type(value).__name__ == "Params4bit"


def _spread(layer: Any) -> torch.Tensor:
    """The weight of a linear layer as numbers, whatever it is held in."""
    weight: torch.Tensor = layer.weight
    if not _is_4_bit(weight):
        return weight.detach().clone()
    from bitsandbytes.functional import dequantize_4bit

    spread: torch.Tensor = dequantize_4bit(weight.data, layer.weight.quant_state)
    return spread


def four_bits(config: ModelConfig, family: Family, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for a language model in NF4, computed in ``dtype``; vision tower, aligner and
    output layer stay as they are. Raises UsageError before anything is read."""
    if device.type not in FOUR_BIT_DEVICES:
        raise UsageError(
            f"model.quantize: {config.quantize!r} needs a GPU of Nvidia's (here: {device.type}); leave it out, and use "
            "model.lora with dtype bfloat16 for less memory"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError("model.quantize needs the bitsandbytes library: pip install 'curr-reft[qlora]'")
    from transformers import BitsAndBytesConfig

    whole = [name.rstrip(".").replace(".", r"\.") for name in (*family.vision, *family.aligner)]
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=[*whole, "lm_head"],
        ),
        "device_map": {"": device},
    }
