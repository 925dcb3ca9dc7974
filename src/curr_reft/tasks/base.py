"""What a task is: how its truths are read and written, its answers parsed and scored, its false claims made.

A task knows nothing of forms (binary, choice, open) or of stages. A new task is one class in one file and one line
in ``tasks.TASKS``.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from curr_reft.data.item import Box, Item, Truth
from curr_reft.tasks.config import TasksConfig
from curr_reft.tasks.expression import Equality

STRICT_IOU = 0.5
"""A box is correct when its IoU with the truth is strictly above this (Curr-ReFT section 3)."""


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What a score may depend on beside the answer and the truth."""

    tasks: TasksConfig = field(default_factory=TasksConfig)  # the sections of the recipe
    progress: float = 1.0  # in [0, 1], share of the stage's steps done; outside of training 1, the strictest
    verdicts: Mapping[tuple[str, str], Equality] = field(default_factory=dict)  # math: (truth, answer) already known


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What false claims of an item may be drawn from, beside the item itself.

    Pools of parts of the data are joined by ``|``, so that no task needs all items at once.
    """

    names: tuple[str, ...] = ()  # classification: the categories of the data; math: its truths in words
    bounds: Box | None = None  # detection: the whole image, in the frame of the boxes
    families: Mapping[str, frozenset[str]] = field(default_factory=dict)  # classification: category -> its families
    together: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # classification: items that show both

    def __or__(self, other: "Pool") -> "Pool":
        families = dict(self.families)
        for name, own in other.families.items():
            families[name] = families.get(name, frozenset()) | own
        together = {name: dict(beside) for name, beside in self.together.items()}
        for name, beside in other.together.items():
            counts = together.setdefault(name, {})
            for neighbour, count in beside.items():
                counts[neighbour] = counts.get(neighbour, 0) + count
        return Pool(
            names=tuple(sorted({*self.names, *other.names})),
            bounds=self.bounds or other.bounds,
            families=families,
            together=together,
        )


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

    def canonical(self, truth: Truth, options: TaskOptions) -> Truth:
        """The truth as the options count it (names with their aliases resolved), so that false claims respect them."""
        ...

    def parse(self, answer: str) -> Any | None:
        """What the text of an answer block says, or None. Never raises and never evaluates the text."""
        ...

    def well_formed(self, answer: str) -> bool:
        """Whether an open answer has the form the task asks for, right or wrong: the task's share in the format reward
        (a JSON box for detection; most tasks ask for nothing)."""
        ...

    def copied(self, parsed: Any, truth: Truth, prompt: str) -> bool:
        """Whether an answer only hands back what the question says, so that it earns nothing even where it is equal."""
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
        """What the false claims of these items are drawn from. Asked part by part; the parts are joined by ``|``."""
        ...

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Up to n truths that are verified wrong for the item; with ``apart`` also wrong with each other (options)."""
        ...

    def claim_kind(self, item: Item, claim: Truth, pool: Pool) -> str:
        """Where a false claim of ``false_claims`` came from, in words for the data card ("another object")."""
        ...

    def corpus_scores(self, answers: Sequence[tuple[Any | None, Truth]]) -> dict[str, float]:
        """Measures of a whole test set that are no mean over its answers, by name: (parsed or None, truth) in order."""
        ...


class TaskDefaults:
    """What most tasks share. A task inherits it and says only what is its own."""

    absent = "no false claim could be verified as wrong"
    several = False

    def canonical(self, truth: Truth, options: TaskOptions) -> Truth:
        return truth

    def well_formed(self, answer: str) -> bool:
        return True

    def as_answer(self, raw: Any) -> str | None:
        """Return the raw truth of a row as a model that follows the prompt writes it; None where ``write`` says it.

        Loading grades it, so that a truth that no plain answer equals is refused. Not asked of a user's own task, which
        may read truths from other text than answers."""
        return raw if isinstance(raw, str) else None

    def copied(self, parsed: Any, truth: Truth, prompt: str) -> bool:
        return False

    def verification(self, parsed: Any, truth: Truth) -> tuple[str, str] | None:
        return None

    def singles(self, truth: Truth) -> tuple[Truth, ...]:
        return (truth,)

    def place(self, item: Item, frame: Frame) -> tuple[Item, Box | None]:
        return item, None

    def pool(self, items: list[Item]) -> Pool:
        return Pool()

    def claim_kind(self, item: Item, claim: Truth, pool: Pool) -> str:
        return "given by the row" if claim in item.distractors else "made by the task"

    def corpus_scores(self, answers: Sequence[tuple[Any | None, Truth]]) -> dict[str, float]:
        return {}
