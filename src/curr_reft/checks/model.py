"""What is known of a model without its weights: its processor, and the sizes of its parts off its configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from curr_reft.policy.adapters import adapter_layers
from curr_reft.policy.config import ModelConfig, Part
from curr_reft.policy.families import Family, part_of
from curr_reft.policy.gates import is_gated
from curr_reft.policy.load import load_chat_processor, load_config, weights_dtype
from curr_reft.policy.processor import ChatProcessor

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a number in 4 bits with double quantisation: blocks of 64 share 8 bits, 256 of these share a float32 (QLoRA, arXiv
2305.14314, section 3)."""


@dataclass(frozen=True, kw_only=True)
class Width:
    """Numbers that a part of the model keeps for each of its tokens (or patches) in a forward with a backward to come.

    A linear layer is counted with what it reads and what it puts out: activations between them are as large as one of
    the two. A norm reads its input in float32.
    """

    linear: int  # inputs and outputs of all linear layers
    norm: int  # inputs of all norms
    gated: int  # of the linear ones, inputs that backward makes again on a CPU (policy/gates.py)
    layers: int
    hidden: int  # of the stream between layers
    widest: int  # linear and norm of one layer


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Of the recipe's model."""

    parameters: int
    text: int  # parameters of the language model that every token passes: without embeddings
    vision: int  # of tower and aligner
    trained: int  # with model.lora those of the adapter
    trained_by_part: Mapping[Part, int]  # of trainings that do not freeze the part
    adapter: int  # parameters that model.lora adds
    bytes: int  # of the weights as they are held, the adapter too
    dtype: Literal["float32", "bfloat16"]
    language: Width
    tower: Width
    sees: bool  # whether tower or aligner are trained, so that their activations are kept
    patches: float  # patches of the tower for each image token of a prompt
    kv: int  # numbers of keys and values of one token in one layer
    vocabulary: int
    longest: int  # tokens of a prompt that the model takes


def describe_model(config: ModelConfig) -> tuple[ChatProcessor, ModelFacts]:
    """Raises UsageError."""
    processor = load_chat_processor(config)
    model_config = load_config(config)
    family = processor.family
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(model_config, trust_remote_code=config.trust_remote_code)
    dtype = weights_dtype(config, model_config)
    counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
    language = {name: count for name, count in counts.items() if part_of(name, family) == "language"}
    layers = adapter_layers(model, family, config) if config.lora is not None else []
    adapter = sum(_adapter(model.get_submodule(name), config) for name in layers)
    by_part = _trained_by_part(model, counts, family, config)
    text = model_config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    facts = ModelFacts(
        parameters=sum(counts.values()),
        text=sum(count for name, count in language.items() if "embed_tokens" not in name),
        vision=sum(counts.values()) - sum(language.values()),
        trained=sum(count for part, count in by_part.items() if part not in config.freeze),
        trained_by_part=by_part,
        adapter=adapter,
        bytes=_weight_bytes(model, counts, family, config, dtype) + adapter * 4,
        dtype=dtype,
        language=_width(model, family, ("language",), text.num_hidden_layers, text.hidden_size),
        tower=_tower_width(model, family, model_config),
        sees=_sees(config, layers, family),
        patches=_patches_of_token(model_config),
        kv=2 * heads * head,
        vocabulary=text.vocab_size,
        longest=processor.max_length,
    )
    return processor, facts


def _trained_by_part(model: nn.Module, counts: dict[str, int], family: Family, config: ModelConfig) -> dict[Part, int]:
    """Numbers that are trained in each part unless it is frozen: the fine-tunings of a run may freeze other parts."""
    if config.lora is None:
        named = [(part_of(name, family), count) for name, count in counts.items()]
    else:
        unfrozen = config.model_copy(update={"freeze": ()})
        layers = adapter_layers(model, family, unfrozen)
        named = [(part_of(f"{name}.", family), _adapter(model.get_submodule(name), config)) for name in layers]
    return {part: sum(count for its, count in named if its == part) for part in get_args(Part)}


def _adapter(layer: nn.Module, config: ModelConfig) -> int:
    assert isinstance(layer, nn.Linear)
    assert config.lora is not None
    return config.lora.rank * (layer.in_features + layer.out_features) + config.lora.dora * layer.out_features


def _weight_bytes(model: nn.Module, counts: dict[str, int], family: Family, config: ModelConfig, dtype: str) -> int:
    each = getattr(torch, dtype).itemsize
    if config.quantize is None:
        return sum(counts.values()) * each
    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = {
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    four = {name for name in counts if name in linear and part_of(name, family) == "language"}
    return round(sum(count * (NF4_BYTES if name in four else each) for name, count in counts.items()))


def _sees(config: ModelConfig, layers: list[str], family: Family) -> bool:
    if config.lora is not None:
        return any(part_of(f"{name}.", family) != "language" for name in layers)
    return not {"vision", "aligner"} <= set(config.freeze)


def _width(model: nn.Module, family: Family, parts: tuple[str, ...], layers: int, hidden: int) -> Width:
    head = model.get_output_embeddings()  # type: ignore[operator]
    linear = norm = gated = 0
    for name, module in model.named_modules():
        if module is head or part_of(f"{name}.", family) not in parts:
            continue
        if isinstance(module, nn.Linear):
            linear += module.in_features + module.out_features
        elif type(module).__name__.endswith("Norm") and getattr(module, "weight", None) is not None:
            norm += module.weight.numel()
        elif is_gated(module):
            gated += module.get_submodule("down_proj").in_features
    widest = (linear + norm) // max(1, layers)
    return Width(linear=linear, norm=norm, gated=gated, layers=layers, hidden=hidden, widest=widest)


def _tower_width(model: nn.Module, family: Family, config: Any) -> Width:
    vision = config.vision_config
    layers = getattr(vision, "depth", None) or vision.num_hidden_layers
    hidden = getattr(vision, "embed_dim", None) or vision.hidden_size
    return _width(model, family, ("vision",), layers, hidden)


def _patches_of_token(config: Any) -> float:
    """Patches of the vision tower that one image token of a prompt is made of."""
    vision = config.vision_config
    merge = getattr(vision, "spatial_merge_size", None) or getattr(config, "scale_factor", None)
    if merge:
        return float(merge**2)
    if getattr(config, "downsample_ratio", None):  # InternVL
        return 1 / float(config.downsample_ratio) ** 2
    if getattr(config, "mm_tokens_per_image", None):  # Gemma 3
        return float((vision.image_size // vision.patch_size) ** 2 / config.mm_tokens_per_image)
    return 1.0  # LLaVA
