"""Features of images in models that make them in several modules: a vision tower, a projector, and what stands between.

All families of transformers have one method on the inner model, ``get_image_features``, from pixels to what the
language model sees at the places of images. It is what is replaced here for one call: it computes every distinct set of
images once, and none whose features are known (``features.py``), and gives what every place shows.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from curr_reft.policy.features import FeatureStore, cut, cut_list, detached, gradients_for, is_frozen, joined
from curr_reft.policy.packing import PackedImages

METHOD = "get_image_features"


@contextmanager
def known_images(
    model: nn.Module, weights: Sequence[nn.Parameter], store: FeatureStore, images: PackedImages, graph: bool
) -> Iterator[None]:
    """While inside, ``model`` (the inner one) computes distinct images that are not known, with ``weights``.

    ``graph`` as of ``vision.image_inputs``.
    """
    run = getattr(model, METHOD)
    signature = inspect.signature(run)

    def features(*args: Any, **kwargs: Any) -> Any:
        known = store.find(weights, images.sources)
        if known is None:
            given = signature.bind(*args, **kwargs).arguments
            given |= given.pop("kwargs", {})
            with gradients_for(weights, graph):
                made = _by_image_or_joined(run(**{**given, **images.inputs}).pooler_output, images)
                output = BaseModelOutputWithPooling(pooler_output=made)  # all that models read of it
                known = (
                    cut_list(output, images.counts or images.pieces)
                    if isinstance(made, list | tuple)
                    else cut(output, images.pieces)
                )
            if graph or is_frozen(weights):
                store.keep(weights, images.sources, known)
        shown = joined([known[entry] for entry in images.entries])
        return detached(shown) if graph else shown

    vars(model)[METHOD] = features
    try:
        yield
    finally:
        del vars(model)[METHOD]


def _by_image_or_joined(made: Any, images: PackedImages) -> Any:
    """A list of features as it is where it has an entry an image. Transformers 5.23 lists those of Idefics3 and SmolVLM
    by rows of the batch instead, here one, and takes one tensor as well: they are joined."""
    if isinstance(made, list | tuple) and len(made) != sum(images.counts or images.pieces):
        return torch.cat(list(made))
    return made
