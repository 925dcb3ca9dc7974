"""What differs between model families. A new family is one entry in ``FAMILIES``, its processor in ``image_text.py``,
and an entry in the table of tests. Whether a model may share prompts is not said here but found out: ``sharing.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn

from curr_reft.data.frame import FrameKind
from curr_reft.errors import UsageError
from curr_reft.policy.sight import (
    Look,
    look_at_grid_of_tiles,
    look_at_rows_of_tiles,
    look_at_square,
    look_between_bars,
    look_between_bars_if_alone,
    look_resized,
)

Positions: TypeAlias = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
"""(input_ids_P, pixel_inputs) -> rotary positions_AP of a prompt."""


TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of a language model of the Llama kind."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the rest of the room has to know about a ``model_type`` of transformers."""

    frame: FrameKind  # coordinates its boxes are written in; sources in docs/models.md
    look: Look  # where an image's pixels go, and how many tokens stand for it
    axes: int  # of its rotary positions: 3 for M-RoPE, 1 for a line
    pixel_axes: Mapping[str, int]  # inputs of the vision tower, and the axis along which prompts are joined
    shown: tuple[str, ...] = ()  # those of them that the model reads once for every place where an image is shown
    vision: tuple[str, ...]  # parameters of the vision tower start with one of these
    aligner: tuple[str, ...]  # ... of the projector into the language model
    features: str  # module whose output is an image's features; an image that prompts share passes it once
    marks: str | None = None  # keyword of the plain forward that says which tokens are image: 1, text: 0
    image_options: Mapping[str, Any] = field(default_factory=dict)  # of the image processor
    lora_targets: tuple[str, ...] = TEXT_LAYERS  # linear layers of the language model that get an adapter by default

    @property
    def bounds_pixels(self) -> bool:
        """Whether its image processor resizes between two numbers of pixels: model.min_pixels and model.max_pixels."""
        return "image_grid_thw" in self.pixel_axes


_QWEN: dict[str, Any] = {
    "look": look_resized,
    "axes": 3,
    "pixel_axes": {"pixel_values": 0, "image_grid_thw": 0},
    "shown": ("image_grid_thw",),
    "vision": ("model.visual.",),
    "aligner": ("model.visual.merger.", "model.visual.deepstack_merger_list."),
    "features": "model.visual",
    "marks": "mm_token_type_ids",
}
_IDEFICS: dict[str, Any] = {
    "look": look_at_rows_of_tiles,
    "axes": 1,
    "pixel_axes": {"pixel_values": 1, "pixel_attention_mask": 1},
    "vision": ("model.vision_model.",),
    "aligner": ("model.connector.",),
    "features": "model.connector",
    "image_options": {"return_row_col_info": True},
}
_PROJECTED: dict[str, Any] = {
    "axes": 1,
    "pixel_axes": {"pixel_values": 0},
    "vision": ("model.vision_tower.",),
    "aligner": ("model.multi_modal_projector.", "model.image_newline"),
    "features": "model.multi_modal_projector",
}
# Tiles as one list without the padding that makes every image as many tiles as the largest.
_LLAVA_TILES: dict[str, Any] = {**_PROJECTED, "image_options": {"do_pad": False, "return_tensors": None}}

FAMILIES: dict[str, Family] = {
    "qwen2_vl": Family(frame="thousand", **_QWEN),
    "qwen2_5_vl": Family(frame="pixels", **_QWEN),
    "qwen3_vl": Family(frame="thousand", **_QWEN),
    "qwen3_5": Family(
        frame="thousand",
        **_QWEN,
        lora_targets=(*TEXT_LAYERS, "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"),
    ),
    "idefics3": Family(frame="unit", **_IDEFICS),
    "smolvlm": Family(frame="unit", **_IDEFICS),
    "internvl": Family(
        frame="thousand", look=look_at_grid_of_tiles, **_PROJECTED, image_options={"crop_to_patches": True}
    ),
    "llava_next": Family(
        frame="unit",
        look=look_between_bars,
        **{**_LLAVA_TILES, "pixel_axes": {"pixel_values": 0, "image_sizes": 0}},
        shown=("image_sizes",),
    ),
    "llava_onevision": Family(
        frame="unit",
        look=look_between_bars_if_alone,
        **{**_LLAVA_TILES, "pixel_axes": {"pixel_values": 0, "image_sizes": 0, "batch_num_images": 0}},
        shown=("image_sizes", "batch_num_images"),
    ),
    "gemma3": Family(frame="thousand", look=look_at_square, **_PROJECTED, marks="token_type_ids"),
}


def family_of(config: Any) -> Family:
    """The family of a model's config. Raises UsageError for one that is not in the table."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise UsageError(
            f"model family {config.model_type!r} is not supported; supported are {', '.join(sorted(FAMILIES))}. "
            "one of your own is named by model.family (docs/extending.md)"
        )
    return family


def image_marks(family: Family, core: Any, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """The marks of image tokens as an ordinary forward of the family wants them; empty where it wants none."""
    return {family.marks: (input_ids == core.config.image_token_id).int()} if family.marks else {}


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
