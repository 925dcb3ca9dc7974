"""One pass of the vision tower for an image that several prompts of a row show.

The model's own forward places the features (Qwen3-VL feeds some of them into deeper layers, LLaVA cuts padding away and
adds line ends), so the output of the module that makes them is repeated by a hook that lives for one call, instead of
splicing features by hand.
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
    if not images.repeated:
        yield images.inputs
        return
    once = images.inputs.get("image_grid_thw")

    def run_once(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The Qwen towers are told the grids of what is shown; they get each distinct set's."""
        return args, {**kwargs, "grid_thw": once} if "grid_thw" in kwargs else kwargs

    def repeat(features: torch.Tensor) -> torch.Tensor:
        return features.index_select(0, _shown_rows(images, len(features)).to(features.device))

    def repeat_features(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return repeat(output)
        output.pooler_output = repeat(output.pooler_output)
        if getattr(output, "deepstack_features", None):
            output.deepstack_features = [repeat(each) for each in output.deepstack_features]
        return output

    module = core.get_submodule(family.features)
    handles = (
        module.register_forward_pre_hook(run_once, with_kwargs=True),
        module.register_forward_hook(repeat_features),
    )
    try:
        yield {**images.inputs, **images.shown}
    finally:
        for handle in handles:
            handle.remove()


def _shown_rows(images: PackedImages, rows: int) -> torch.Tensor:
    """Which of the ``rows`` of features of the distinct sets stand at each place where an image is shown.

    A family makes the same number of rows from every piece of an image (one from a tile, one from four patches).
    """
    pieces = sum(images.pieces)
    assert rows * images.pieces[0] % pieces == 0
    rows_of_set = torch.arange(rows).split([rows * each // pieces for each in images.pieces])
    return torch.cat([rows_of_set[entry] for entry in images.entries])
