"""One pass of the vision tower for an image that several prompts of a row show.

The model's own forward places the features (Qwen3-VL feeds some of them into deeper layers), so the tower's output is
repeated by a hook that lives for one call, instead of splicing features by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from curr_reft.policy.families import Family
from curr_reft.policy.packing import PackedImages


@contextmanager
def shared_images(core: nn.Module, family: Family, images: PackedImages | None) -> Iterator[dict[str, torch.Tensor]]:
    """Yields the image inputs of one forward call of the model; while inside, shared images run once."""
    if images is None:
        yield {}
        return
    inputs = images.inputs
    if not images.repeated:
        yield inputs
        return
    assert family.tower is not None
    tower = core.get_submodule(family.tower)
    once = inputs["image_grid_thw"]
    tokens = (once.prod(-1) // tower.spatial_merge_size**2).tolist()  # type: ignore[operator]
    image_of = torch.arange(len(tokens), device=once.device).split(images.sizes)
    shown = torch.cat([image_of[entry] for entry in images.entries])  # the image at each place of the row
    token_of = torch.arange(sum(tokens), device=once.device).split(tokens)
    repeat = torch.cat([token_of[image] for image in shown.tolist()])

    def run_once(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, "grid_thw": once}

    def repeat_features(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        output.pooler_output = output.pooler_output.index_select(0, repeat)
        if getattr(output, "deepstack_features", None):
            output.deepstack_features = [each.index_select(0, repeat) for each in output.deepstack_features]
        return output

    handles = (
        tower.register_forward_pre_hook(run_once, with_kwargs=True),
        tower.register_forward_hook(repeat_features),
    )
    try:
        yield {**inputs, "image_grid_thw": once[shown]}
    finally:
        for handle in handles:
            handle.remove()
