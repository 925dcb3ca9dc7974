"""A task of your own in one class: ``parse``, ``score``, ``false_claim``, ``distractors``. All else has a default.

A truth is kept as the text of the row, so that it can be written, compared and exported; your methods get it parsed.
What the class proposes as wrong is verified by its own ``score`` before it is asked. For boxes, which move with the
image, write a whole ``Task`` (``tasks/base.py``) and name that in the recipe.
"""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from numbers import Real
from typing import Any, TypeVar

from curr_reft.data.item import Item, Truth
from curr_reft.errors import RecipeError
from curr_reft.tasks.base import Pool, TaskDefaults, TaskOptions

TIMEOUT = 5.0  # seconds: reading a short text takes a thousandth of one
TRIES = 20  # times a class is asked for one more wrong answer before the item is left out

T = TypeVar("T")


class SimpleTask(ABC):
    """Inherit from it, set ``name``, and write the four methods. Instances are made without arguments, and hold no
    state: an answer must earn the same whenever it is graded."""

    name: str
    """What rows give as their task."""
    wrong_below: float = 0.5
    """A false claim or distractor must score below this; in (0, 1]."""
    timeout: float = TIMEOUT
    """Seconds that each call of a method may take; an answer on which one takes longer has no score."""
    absent: str = "no false claim could be verified as wrong"
    """What an item lacks when no false claim can be made, for the data card."""

    @abstractmethod
    def parse(self, text: str) -> Any | None:
        """What the text of an answer says; None when it holds no answer that can be read. Read strictly: what is
        guessed out of prose, a model will learn to be paid for."""

    @abstractmethod
    def score(self, answer: Any, truth: Any) -> float:
        """In [0, 1]; both are parsed. 1 is right, and the truth itself must earn it."""

    @abstractmethod
    def false_claim(self, truth: Any, rng: random.Random) -> str | None:
        """A plausible wrong answer, as text, for a yes or no question; None when there is none."""

    @abstractmethod
    def distractors(self, truth: Any, rng: random.Random, n: int) -> Sequence[str]:
        """n plausible wrong answers that differ from each other, as texts, for a choice; fewer when there are not."""

    def read_truth(self, raw: Any) -> str:
        """The text of a row's truth. Raises ValueError with the reason when ``raw`` cannot be one."""
        return raw.strip() if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)

    def well_formed(self, text: str) -> bool:
        """What the format reward asks of an open answer beside its tags, right or wrong."""
        return True


class UserTask(TaskDefaults):
    """A ``SimpleTask`` as the rest of the house sees a task."""

    def __init__(self, own: SimpleTask) -> None:
        self.own = own
        self.name = own.name
        self.timeout = own.timeout
        self.absent = own.absent

    def read_truth(self, raw: Any) -> str:
        """Raises ValueError for what the class cannot read, or would not pay."""
        try:
            text = self.own.read_truth(raw)
            parsed = self.own.parse(text)
            earned = None if parsed is None else self.own.score(parsed, parsed)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"{raw!r}: the task's class raised {type(error).__name__}: {error}") from error
        if not isinstance(text, str) or not text:
            raise ValueError(f"{raw!r}: read_truth made {text!r} of it, and a text is needed")
        if parsed is None:
            raise ValueError(f"{raw!r} cannot be read by parse, so no answer could ever equal it")
        if earned != 1:
            raise ValueError(f"{raw!r} earns {earned!r} by score when it is the answer, and must earn 1")
        return text

    def parse(self, answer: str) -> Any | None:
        return self.own.parse(answer)

    def well_formed(self, answer: str) -> bool:
        return bool(self.own.well_formed(answer))

    def score(self, parsed: Any, truth: Truth, options: TaskOptions) -> float:
        earned = self.own.score(parsed, self.own.parse(str(truth)))
        if not isinstance(earned, Real):
            raise TypeError(f"score returned {earned!r}, and a number in [0, 1] is needed")
        return float(earned)

    def correct(self, parsed: Any, truth: Truth, options: TaskOptions) -> bool:
        return self.score(parsed, truth, options) == 1

    def write(self, truth: Truth) -> str:
        return str(truth)

    def claim(self, truth: Truth) -> str:
        return str(truth)

    def option(self, truth: Truth) -> str:
        return str(truth)

    def false_claims(self, item: Item, pool: Pool, rng: random.Random, n: int, apart: bool = False) -> list[Truth]:
        """Those the row knows first, then those of the class; each must score low against the truth, and with
        ``apart`` against the others too."""
        truth = self.own.parse(str(item.truth))
        given = list(item.distractors)
        rng.shuffle(given)
        proposed = self._distractors(truth, rng, n) if apart else self._claims(truth, rng)
        others, chosen = list[Any](), list[Truth]()
        for text in chain(map(str, given), proposed):
            if len(chosen) >= n:
                break
            parsed = self._asked("parse", self.own.parse, text)
            if parsed is None or not self._wrong(parsed, truth):
                continue
            # Of two options neither may be nearly the other, and a score need not be symmetric.
            if all(self._wrong(parsed, other) and self._wrong(other, parsed) for other in others):
                chosen.append(text)
                others += [parsed] if apart else []
        return chosen

    def _claims(self, truth: Any, rng: random.Random) -> Iterator[str]:
        for _ in range(TRIES):
            claim = self._asked("false_claim", self.own.false_claim, truth, rng)
            if claim is None:
                return
            yield str(claim)

    def _distractors(self, truth: Any, rng: random.Random, n: int) -> Iterator[str]:
        for _ in range(TRIES):
            texts = self._asked("distractors", self.own.distractors, truth, rng, n)
            if not texts:
                return
            yield from map(str, texts)

    def _wrong(self, parsed: Any, other: Any) -> bool:
        return self._asked("score", self.own.score, parsed, other) < self.own.wrong_below

    def _asked(self, name: str, method: Callable[..., T], *given: Any) -> T:
        """What a method of the class returns while questions are made: there a defect is the user's to correct."""
        try:
            return method(*given)
        except Exception as error:
            raise RecipeError(
                f"task {self.name}: {type(self.own).__name__}.{name} raised {type(error).__name__}: {error}; "
                "correct the class"
            ) from error
