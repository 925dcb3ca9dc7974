"""Validation, and a test, split off the training rows, where a recipe names none.

Items that share a picture, or a copy of it under other bytes, or (without pictures) a question, move together, so that
the split cannot leak into itself. Which ones move depends on their content and the seed only, not on their order.
"""

import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from curr_reft.console import progress
from curr_reft.data.copies import verified_copies
from curr_reft.data.fingerprint import Fingerprint
from curr_reft.data.images import StoredImage
from curr_reft.data.item import ImageSource, Item
from curr_reft.seeding import derive_seed


class ValidationSplit:
    """About ``fraction`` of the training items of each task. Keeps 17 bytes an item, and a number for each picture that
    is linked to another one."""

    def __init__(
        self, items: Iterable[Item], fraction: float, seed: int, perceptual: bool = True, name: str = "validation"
    ) -> None:
        """Goes through ``items`` once; again if pictures look alike. Raises DataError for one it cannot open.

        ``name`` is that of the split, which names the draw."""
        self._seed = seed
        self._name = name
        self._linked: dict[int, int] = {}  # picture or question -> a smaller one that moves with it
        tasks: dict[str, int] = {}
        firsts, of_task = array("Q"), array("B")
        printed: dict[int, Fingerprint] = {}
        for item in items:
            if item.split != "train":
                continue
            first, *others = _names(item)
            firsts.append(first)
            of_task.append(tasks.setdefault(item.task, len(tasks)))
            for other in others:
                self._link(first, other)
            for key, image in zip((first, *others), item.images, strict=False):
                if perceptual and isinstance(image, StoredImage) and key not in printed:
                    printed[key] = image.fingerprint

        def pictures() -> Iterator[tuple[int, ImageSource]]:
            return ((key, image) for item in items for key, image in zip(_names(item), item.images, strict=False))

        with progress("comparing pictures", len(printed)) as advance:
            copies = verified_copies(list(printed), list(printed.values()), pictures, advance)
        for first, second in copies.pairs:
            self._link(first, second)
        self._moved = self._choose([self._group(first) for first in firsts], of_task, len(tasks), fraction)

    def takes(self, item: Item) -> bool:
        """Whether a training item moves."""
        return item.split == "train" and self._group(_names(item)[0]) in self._moved

    def _choose(self, groups: list[int], of_task: "array[int]", tasks: int, fraction: float) -> set[int]:
        rows = [of_task.count(number) for number in range(tasks)]
        wanted = [min(count - 1, max(1, round(count * fraction))) for count in rows]
        moved: set[int] = set()
        order = np.argsort(np.asarray(groups, dtype=np.uint64), kind="stable").tolist()
        for group, places in itertools.groupby(order, key=groups.__getitem__):
            members = Counter(of_task[place] for place in places)
            # A group larger than half of a task's rows stays: it would leave nothing to train on.
            if all(wanted[task] > 0 and 2 * count <= rows[task] for task, count in members.items()):
                moved.add(group)
                for task, count in members.items():
                    wanted[task] -= count
        return moved

    def _group(self, name: int) -> int:
        """Names what moves together; the order of the numbers is the order in which groups are asked to move."""
        return derive_seed(self._seed, self._name, self._smallest(name))

    def _smallest(self, name: int) -> int:
        while name in self._linked:
            name = self._linked[name]
        return name

    def _link(self, first: int, second: int) -> None:
        low, high = sorted((self._smallest(first), self._smallest(second)))
        if low != high:
            self._linked[high] = low


def _names(item: Item) -> list[int]:
    """Numbers that name the pictures of an item, or its question if it has none."""
    return [derive_seed(0, "moves with", image.key) for image in item.images] or [
        derive_seed(0, "moves with", item.question)
    ]
