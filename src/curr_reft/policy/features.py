"""Features of images that need not be computed again.

Of a tower that is not trained (its projector neither), the features of an image stay what they are: they are kept for
as long as its pixels are (the processor's cache bounds those, and features are smaller), over rollout, training and
steps. Of a tower that is trained they hold until the weights change: a rollout may compute them with their graph, and
the training forward of the same step goes on from it instead of running the tower a second time. The gradients are the
same, since the same weights made them.

Where a model makes features of pixels is one module in some families (Qwen: the tower puts out what the language model
sees), and a method of the model in others (``image_features.py``).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass(frozen=True, kw_only=True)
class Features:
    """Of one set of images (those of a prompt): its share of what was made of all."""

    kind: type[Any]  # of the output that held them
    rows: torch.Tensor
    deeper: tuple[torch.Tensor, ...] = ()  # what goes to deeper layers (Qwen3-VL)
    listed: bool = False  # the output holds a list, an entry an image, instead of one tensor


class FeatureStore:
    """Features by the tensor of pixels they were made from. Whoever changes the weights of a frozen tower otherwise
    than in place makes a new store."""

    def __init__(self) -> None:
        self._kept = WeakTensorKeyDictionary()
        self._graphs = WeakTensorKeyDictionary()
        self._version = 0

    def find(self, weights: Sequence[nn.Parameter], pixels: Sequence[torch.Tensor]) -> list[Features] | None:
        """The features of all these sets of images, or None. Those with a graph are handed out once."""
        kept: Any = {}
        if is_frozen(weights):
            if self._version == _version(weights):
                kept = self._kept
        elif torch.is_grad_enabled():
            kept, self._graphs = self._graphs, WeakTensorKeyDictionary()  # backward may run through a graph once
        found = [kept.get(each) for each in pixels]
        return None if None in found else found

    def keep(self, weights: Sequence[nn.Parameter], pixels: Sequence[torch.Tensor], made: Sequence[Features]) -> None:
        """Keeps what ``weights`` made of ``pixels``."""
        if not is_frozen(weights):
            kept = self._graphs
        else:
            version = _version(weights)
            if version != self._version:
                self._kept, self._version = WeakTensorKeyDictionary(), version
            kept = self._kept
        for each, features in zip(pixels, made, strict=True):
            kept[each] = features

    def drop_graphs(self) -> None:
        """Forgets features with a graph, and with it frees what their backward would need."""
        self._graphs = WeakTensorKeyDictionary()


def is_frozen(weights: Sequence[nn.Parameter]) -> bool:
    """Whether none of ``weights`` is trained."""
    return not any(parameter.requires_grad for parameter in weights)


def gradients_for(weights: Sequence[nn.Parameter], graph: bool) -> AbstractContextManager[Any]:
    """Whether a pass of ``weights`` over images builds a graph; ``graph`` as of ``vision.image_inputs``.

    Not where none of them is trained, though what enters them may require gradients: so it does with adapters and
    gradient checkpointing, by peft. What is kept could serve one backward only, which would run for nothing.
    """
    return torch.set_grad_enabled((graph or torch.is_grad_enabled()) and not is_frozen(weights))


def _version(weights: Sequence[nn.Parameter]) -> int:
    """Grows whenever a weight is changed in place."""
    return sum(parameter._version for parameter in weights)


def joined(parts: Sequence[Features]) -> Any:
    """One output for all parts, in order."""
    rows = [each.rows for each in parts]
    output = parts[0].kind(pooler_output=rows if parts[0].listed else torch.cat(rows))
    if parts[0].deeper:
        output.deepstack_features = [torch.cat(each) for each in zip(*(part.deeper for part in parts), strict=True)]
    return output


def cut(output: Any, sizes: Sequence[int]) -> list[Features]:
    """The inverse: the output by sets of images, each the share of rows that ``sizes`` says."""
    total = len(output.pooler_output)
    rows = [total * size // sum(sizes) for size in sizes]
    assert sum(rows) == total
    deeper = [each.split(rows) for each in getattr(output, "deepstack_features", None) or ()]
    return [
        Features(kind=type(output), rows=part, deeper=tuple(each[number] for each in deeper))
        for number, part in enumerate(output.pooler_output.split(rows))
    ]


def cut_list(output: Any, counts: Sequence[int]) -> list[Features]:
    """The same where an output lists the features of each image: ``counts`` says how many images a set has."""
    images = list(output.pooler_output)
    assert len(images) == sum(counts)
    starts = accumulate(counts, initial=0)
    return [
        Features(kind=type(output), rows=torch.cat(images[start : start + count]), listed=True)
        for start, count in zip(starts, counts, strict=False)
    ]


def detached(output: Any) -> Any:
    """The output without its graph."""
    made = output.pooler_output
    output.pooler_output = [each.detach() for each in made] if isinstance(made, list) else made.detach()
    if getattr(output, "deepstack_features", None):
        output.deepstack_features = [each.detach() for each in output.deepstack_features]
    return output
