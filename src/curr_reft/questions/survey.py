"""The first pass over the items: what false claims are drawn from, what repeats, what the pictures are like.

Items are not kept. Of each a few numbers are: about 50 bytes, 16 more for each picture of it, and once 56 for each
picture that comes from a file. What they say of repeats is confirmed on the items themselves (``leaks.py``).
"""

import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass, field

from curr_reft.data.fingerprint import Fingerprint
from curr_reft.data.images import StoredImage
from curr_reft.data.item import ImageSource, Item
from curr_reft.tasks import TASKS
from curr_reft.tasks.base import Pool

PART = 512  # items of a (split, task) whose pool is made at once


def number_of(*parts: object) -> int:
    """64 bits that name ``parts``: equal for equal ones on every machine."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def question_text(item: Item) -> str:
    """The question as leak checks compare it: case and white space do not make another one."""
    return " ".join(item.question.casefold().split())


@dataclass
class Survey:
    """Add every item, then ``finish``. Arrays hold a number an item, but for ``pictures`` and what goes with them."""

    perceptual: bool = True
    splits: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # split, task
    pools: dict[tuple[str, str], Pool] = field(default_factory=dict)  # split, task
    split_of: "array[int]" = field(default_factory=lambda: array("B"))
    ids: "array[int]" = field(default_factory=lambda: array("Q"))
    questions: "array[int]" = field(default_factory=lambda: array("Q"))  # the text of the question
    asked: "array[int]" = field(default_factory=lambda: array("Q"))  # the question with its task
    answers: "array[int]" = field(default_factory=lambda: array("Q"))  # the question with its task and truth
    pictures: "array[int]" = field(default_factory=lambda: array("Q"))  # key of every picture of every item, in order
    picture_end: "array[int]" = field(default_factory=lambda: array("I"))  # where the pictures of an item end
    sizes: "array[int]" = field(default_factory=lambda: array("I"))  # width, height of every picture
    printed: "array[int]" = field(default_factory=lambda: array("Q"))  # keys of the pictures with a fingerprint
    prints: list[Fingerprint] = field(default_factory=list)
    unknown: list[tuple[str, str]] = field(default_factory=list)  # (source, reason) of items without a known task
    _seen: set[int] = field(default_factory=set)
    _waiting: dict[tuple[str, str], list[Item]] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        if item.task not in TASKS:
            reason = f"task {item.task!r} is unknown; the tasks are {', '.join(TASKS)}"
            self.unknown.append((item.source or item.id, reason))
            return
        if item.split not in self.splits:
            self.splits.append(item.split)
        text = question_text(item)
        self.counts[item.split, item.task] += 1
        self.split_of.append(self.splits.index(item.split))
        self.ids.append(number_of(item.id))
        self.questions.append(number_of(text))
        self.asked.append(number_of(item.task, text))
        self.answers.append(number_of(item.task, text, item.truth))
        for image in item.images:
            self._add_picture(image)
        self.picture_end.append(len(self.pictures))
        waiting = self._waiting.setdefault((item.split, item.task), [])
        waiting.append(item)
        if len(waiting) >= PART:
            self._pool(item.split, item.task)

    def finish(self) -> None:
        for split, task in self._waiting:
            self._pool(split, task)

    def pictures_of(self, place: int) -> list[int]:
        """The keys of the pictures of the item at ``place``."""
        return list(self.pictures[self.picture_end[place - 1] if place else 0 : self.picture_end[place]])

    def _add_picture(self, image: ImageSource) -> None:
        key = number_of(image.key)
        self.pictures.append(key)
        self.sizes.extend(image.size)
        # A drawn picture is named by what it shows: equal pictures have equal keys.
        if self.perceptual and isinstance(image, StoredImage) and key not in self._seen:
            self._seen.add(key)
            self.printed.append(key)
            self.prints.append(image.fingerprint)

    def _pool(self, split: str, task: str) -> None:
        part = self._waiting[split, task]
        if part:
            self.pools[split, task] = self.pools.get((split, task), Pool()) | TASKS[task].pool(part)
            part.clear()
