"""No more passes of the vision tower than there are images to see.

An image that several prompts of a row show passes the tower once, and features that are known are not computed again
(``features.py``). The model's own forward places the features (Qwen3-VL feeds some of them into deeper layers, LLaVA
cuts padding away and adds line ends), so what a module computes is replaced for one call, instead of splicing features
by hand.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from curr_reft.policy.features import FeatureStore, cut, detached, gradients_for, is_frozen, joined
from curr_reft.policy.gates import gates_as_one
from curr_reft.policy.image_features import known_images
from curr_reft.policy.norms import norms_as_one
from curr_reft.policy.packing import PackedImages
from curr_reft.policy.patches import computed_by, patches_as_product
from curr_reft.policy.policy import Policy


@contextmanager
def image_inputs(policy: Policy, images: PackedImages | None, *, graph: bool = False) -> Iterator[dict[str, Any]]:
    """Yields the image inputs of one forward call of the model; while inside, no image is computed twice.

    ``graph``, in a call without gradients: the tower runs with them, and the next call with gradients whose images are
    among these goes on from there. See ``features.py``.
    """
    with ExitStack() as stack:
        stack.enter_context(norms_as_one(policy.core))
        stack.enter_context(gates_as_one(policy.core))
        if images is None:
            yield {}
            return
        weights = policy.vision_parameters
        if policy.tower is not None:
            stack.enter_context(_known_features(policy.tower, weights, policy.features, images, graph))
        else:
            stack.enter_context(known_images(policy.core.model, weights, policy.features, images, graph))
        stack.enter_context(patches_as_product(policy.patch_embedding))
        yield {**images.inputs, **images.shown}


@contextmanager
def _known_features(
    tower: nn.Module, weights: Sequence[nn.Parameter], store: FeatureStore, images: PackedImages, graph: bool
) -> Iterator[None]:
    """While inside, ``tower`` runs on distinct images that are not known, and puts out what every place shows."""
    run = tower.forward

    def forward(pixels: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
        known = store.find(weights, images.sources)
        if known is None:
            with gradients_for(weights, graph):
                known = cut(run(pixels, grid_thw=images.inputs["image_grid_thw"], **kwargs), images.pieces)
            if graph or is_frozen(weights):
                store.keep(weights, images.sources, known)
        shown = joined([known[entry] for entry in images.entries])
        return detached(shown) if graph else shown

    with computed_by(tower, forward):
        yield
