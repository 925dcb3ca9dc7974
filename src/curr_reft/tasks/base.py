"""What a task is: how its truths are read and written, its answers parsed and scored, its false claims made.

A task knows nothing of forms (binary, choice, open) or of stages. A new task is one class in one file and one line
in ``tasks.TASKS``.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from curr_reft.data.item import Box, Item, Truth
from curr_reft.tasks.expression import Equality

STRICT_IOU = 0.5
"""A box is correct when its IoU with the truth is strictly above this (Curr-ReFT section 3)."""


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """How open answers are scored. The defaults are the ones of the paper, with the decisions of the docs."""

    iou_threshold: float = 0.5  # detection: 1 strictly above it
    soft_iou: bool = False  # detection: the IoU itself is the score
    plurals: Mapping[str, str] = field(default_factory=dict)  # classification: {"dogs": "dog"}; empty: no mapping
    timeout: float = 5.0  # math: seconds one verification may take in its worker
    workers: int = 2  # math: verification processes
    verdicts: Mapping[tuple[str, str], Equality] = field(default_factory=dict)  # math: (truth, answer) already known


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What false claims of an item may be drawn from, beside the item itself."""

    names: tuple[str, ...] = ()  # classification: the categories of the data; math: its truths in words
    bounds: Box | None = None  # detection: the whole image, in the frame of the boxes


class Frame(Protocol):
    """The coordinates a model answers in (``data.frame.BoxFrame``)."""

    @property
    def kind(self) -> str: ...

    def to_model(self, box: Box, size: tuple[int, int]) -> Box:
        """A box in pixels of the original image of ``size`` (width, height), in this frame, not rounded."""
        ...


class Task(Protocol):
    """One kind of question with checkable answers. ``parsed`` is whatever ``parse`` of the same task returns."""

    @property
    def name(self) -> str: ...

    @property
    def absent(self) -> str:
        """What a question of this task lacks when no false claim can be made, for the card."""
        ...

    @property
    def several(self) -> bool:
        """Whether more than one option of a choice may be right."""
        ...

    def read_truth(self, raw: Any) -> Truth:
        """The truth of a row. Raises ValueError with the reason when ``raw`` cannot be one."""
        ...

    def parse(self, answer: str) -> Any | None:
        """What the text of an answer block says, or None. Never raises and never evaluates the text."""
        ...

    def score(self, parsed: Any, truth: Truth, options: TaskOptions) -> float:
        """In [0, 1]. Raises GradingTimeoutError or VerificationError where there is no score (math)."""
        ...

    def correct(self, parsed: Any, truth: Truth, options: TaskOptions) -> bool:
        """The strict rule of evaluation: IoU > 0.5, the same set, verified equal."""
        ...

    def write(self, truth: Truth) -> str:
        """The truth as a model should answer it; ``parse`` reads it back."""
        ...

    def claim(self, truth: Truth) -> str:
        """The truth, or a false one, as a binary question states it."""
        ...

    def option(self, truth: Truth) -> str:
        """The truth, or a false one, as a choice question lists it."""
        ...

    def verification(self, parsed: Any, truth: Truth) -> tuple[str, str] | None:
        """The (truth, answer) that ``score`` will ask of ``symbolic.verify``, so that a batch can ask at once; None
        for a task that verifies nothing."""
        ...

    def singles(self, truth: Truth) -> tuple[Truth, ...]:
        """The true claims a truth holds: one per category, else the truth itself."""
        ...

    def place(self, item: Item, frame: Frame) -> tuple[Item, Box | None]:
        """The item with its boxes in the model's frame, as a model writes them, and the bounds of that frame.

        Raises ValueError with the reason when the item cannot be asked there.
        """
        ...

    def pool(self, items: list[Item]) -> Pool:
        """What the false claims of these items are drawn from."""
        ...

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Up to n truths that are verified wrong for the item; with ``apart`` also wrong with each other (options)."""
        ...
