"""What differs between model families. A new family is one line in ``FAMILIES``, and a test.

The shared prefix is exact only where attention is causal over everything before a token; models that look further
(images seen both ways) or less far (sliding windows, recurrent layers) are refused, not approximated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn

from curr_reft.data.frame import FrameKind
from curr_reft.errors import UsageError

Positions: TypeAlias = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
"""(input_ids_P, pixel_inputs) -> rotary positions_AP of a prompt."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the rest of the room has to know about a ``model_type`` of transformers."""

    frame: FrameKind  # coordinates its boxes are written in
    axes: int  # of its rotary positions: 3 for M-RoPE, 1 for a line
    pixel_axes: Mapping[str, int]  # inputs of the vision tower, and the axis along which prompts are joined
    vision: tuple[str, ...]  # parameters of the vision tower start with one of these
    aligner: tuple[str, ...]  # ... of the projector into the language model
    tower: str | None = None  # module called as tower(pixel_values, grid_thw=...); an image shared by prompts runs once
    image_options: Mapping[str, Any] = field(default_factory=dict)  # of the image processor


_GRID = {"pixel_values": 0, "image_grid_thw": 0}
_TILES = {"pixel_values": 1, "pixel_attention_mask": 1}
_QWEN: dict[str, Any] = {
    "axes": 3,
    "pixel_axes": _GRID,
    "vision": ("model.visual.",),
    "aligner": ("model.visual.merger.", "model.visual.deepstack_merger_list."),
    "tower": "model.visual",
}
_IDEFICS: dict[str, Any] = {
    "axes": 1,
    "pixel_axes": _TILES,
    "vision": ("model.vision_model.",),
    "aligner": ("model.connector.",),
    "image_options": {"return_row_col_info": True},
}

FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family(frame="thousand", **_QWEN),
    "qwen2_5_vl": Family(frame="pixels", **_QWEN),
    "qwen3_vl": Family(frame="thousand", **_QWEN),
    "idefics3": Family(frame="unit", **_IDEFICS),
    "smolvlm": Family(frame="unit", **_IDEFICS),
}

_TEXT_MODELS = {"qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "llama", "qwen2", "qwen3"}


def family_of(config: Any) -> Family:
    """The family of a model's config. Raises UsageError for one that is not in the table."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise UsageError(
            f"model family {config.model_type!r} is not supported; supported are {', '.join(sorted(FAMILIES))}. "
            "A family is one line in policy/families.py and a test"
        )
    return family


def check_shared_prefix(config: Any) -> None:
    """Raises UsageError if a group's shared prefix would not be exact for this model, and says what to set instead."""
    text = config.get_text_config()
    window = {kind for kind in getattr(text, "layer_types", None) or () if kind != "full_attention"}
    reasons = []
    if window:
        reasons.append(f"its layers use {', '.join(sorted(window))}")
    elif getattr(text, "use_sliding_window", False) or (
        not hasattr(text, "use_sliding_window") and getattr(text, "sliding_window", None)
    ):
        reasons.append("it uses sliding-window attention")
    if text.model_type not in _TEXT_MODELS:
        reasons.append(f"its language model {text.model_type!r} has not been checked")
    if getattr(text, "attention_dropout", 0.0):
        reasons.append(f"its attention_dropout is {text.attention_dropout}, and must be 0")
    if reasons:
        raise UsageError(
            f"packed: the model ({config.model_type}) cannot share a prompt between completions: "
            f"{'; '.join(reasons)}. Set model.packed to false to train it on the plain path"
        )


def positions_of(core: nn.Module, family: Family) -> Positions:
    """The function that gives the rotary positions of a prompt for this model (on the CPU)."""

    def line(input_ids_P: torch.Tensor, pixel_inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.arange(input_ids_P.shape[0]).expand(family.axes, -1)

    def grid(input_ids_P: torch.Tensor, pixel_inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if not pixel_inputs:
            return line(input_ids_P, pixel_inputs)
        config: Any = core.config
        positions, _ = core.model.get_rope_index(  # type: ignore[operator, union-attr]
            input_ids_P[None],
            mm_token_type_ids=(input_ids_P == config.image_token_id).int()[None],
            image_grid_thw=pixel_inputs["image_grid_thw"],
        )
        return positions[:, 0]

    return grid if family.axes == 3 else line


def part_of(name: str, family: Family) -> str:
    """``vision``, ``aligner`` or ``language`` for the name of a parameter of the core model."""
    if name.startswith(family.aligner):
        return "aligner"
    return "vision" if name.startswith(family.vision) else "language"
