"""Features of images that need not be computed again.

Of a tower that is not trained (its projector neither), the features of an image stay what they are: they are kept for
as long as its pixels are (the processor's cache bounds those, and features are smaller), over rollout, training and
steps. Of a tower that is trained they hold until the weights change: a rollout may compute them with their graph, and
the training forward of the same step goes on from it instead of running the tower a second time. The gradients are the
same, since the same weights made them.

For families whose tower puts out the features itself (the Qwen families).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass(frozen=True, kw_only=True)
class Features:
    """Of one set of images (those of a prompt): its rows of what the tower puts out."""

    kind: type[Any]  # of the tower's output
    rows: torch.Tensor
    deeper: tuple[torch.Tensor, ...]  # what goes to deeper layers (Qwen3-VL)


class FeatureStore:
    """Features by the tensor of pixels they were made from. Whoever changes the weights of a frozen tower otherwise
    than in place makes a new store."""

    def __init__(self) -> None:
        self._kept = WeakTensorKeyDictionary()
        self._graphs = WeakTensorKeyDictionary()
        self._version = 0

    def find(self, tower: nn.Module, pixels: Sequence[torch.Tensor]) -> list[Features] | None:
        """The features of all these sets of images, or None. Those with a graph are handed out once."""
        kept: Any = {}
        if is_frozen(tower):
            if self._version == _version(tower):
                kept = self._kept
        elif torch.is_grad_enabled():
            kept, self._graphs = self._graphs, WeakTensorKeyDictionary()  # backward may run through a graph once
        found = [kept.get(each) for each in pixels]
        return None if None in found else found

    def keep(self, tower: nn.Module, pixels: Sequence[torch.Tensor], made: Sequence[Features]) -> None:
        """Keeps what ``tower`` made of ``pixels``."""
        if not is_frozen(tower):
            kept = self._graphs
        else:
            version = _version(tower)
            if version != self._version:
                self._kept, self._version = WeakTensorKeyDictionary(), version
            kept = self._kept
        for each, features in zip(pixels, made, strict=True):
            kept[each] = features

    def drop_graphs(self) -> None:
        """Forgets features with a graph, and with it frees what their backward would need."""
        self._graphs = WeakTensorKeyDictionary()


def is_frozen(tower: nn.Module) -> bool:
    """Whether no parameter of ``tower`` is trained."""
    return not any(parameter.requires_grad for parameter in tower.parameters())


def _version(tower: nn.Module) -> int:
    """Grows whenever a weight is changed in place."""
    return sum(parameter._version for parameter in tower.parameters())


def joined(parts: Sequence[Features]) -> Any:
    """One output of the tower for all parts, in order."""
    output = parts[0].kind(pooler_output=torch.cat([each.rows for each in parts]))
    if parts[0].deeper:
        output.deepstack_features = [torch.cat(each) for each in zip(*(part.deeper for part in parts), strict=True)]
    return output


def cut(output: Any, sizes: Sequence[int]) -> list[Features]:
    """The inverse: the tower's output by sets of images, each the share of rows that ``sizes`` says."""
    total = len(output.pooler_output)
    rows = [total * size // sum(sizes) for size in sizes]
    assert sum(rows) == total
    deeper = [each.split(rows) for each in getattr(output, "deepstack_features", None) or ()]
    return [
        Features(kind=type(output), rows=part, deeper=tuple(each[number] for each in deeper))
        for number, part in enumerate(output.pooler_output.split(rows))
    ]


def detached(output: Any) -> Any:
    """The tower's output without its graph."""
    output.pooler_output = output.pooler_output.detach()
    if getattr(output, "deepstack_features", None):
        output.deepstack_features = [each.detach() for each in output.deepstack_features]
    return output
