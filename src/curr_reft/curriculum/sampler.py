"""Which questions a step asks: a mixture of forms, replay of earlier ones, the tasks in turn, items in epochs."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from curr_reft.curriculum.difficulty import shuffled
from curr_reft.data.item import images_key
from curr_reft.questions.question import Question
from curr_reft.seeding import stream

Epoch: TypeAlias = Callable[[Sequence[Question], int, random.Random], list[int]]
"""(questions of a cell, how many prompts are planned from here on, generator) -> places in the order of an epoch."""


@dataclass(frozen=True, kw_only=True)
class _Order:
    """The order in which one epoch asks the questions of a cell."""

    epoch: int
    places: list[int]  # in the cell
    of_image: Mapping[tuple[str, ...], list[int]]  # where in this order an image's questions stand; empty: not needed


class QuestionSampler:
    """Draws ``prompts`` questions a step.

    The share of a form is met over the steps, not only on average: whole numbers are carried over, so 30 % of 12
    prompts are 3, 4, 4, 3, ... Tasks take turns within a form. A (form, task) cell is asked in epochs, each in an order
    of its own, which ``epoch`` makes: by default every question once, at random.

    A replacement is the next question of the same cell. Shares and turns count what was dealt, not what was replaced,
    so the mixture of a step stays what it was; a cell that is replaced more often comes to its next epoch sooner.

    With ``questions_per_image`` above 1 a step asks so many questions about an image that it comes to, as far as the
    cells whose turn it is hold them: they are taken ahead of their places in the order of the epoch. Whose turn it is,
    and that an epoch asks every question once, stays as it is.
    """

    def __init__(
        self,
        questions: Mapping[str, Sequence[Question]],
        shares: Mapping[str, float],
        prompts: int,
        seed: int,
        *,
        steps: int = 0,
        epoch: Epoch = shuffled,
        questions_per_image: int = 1,
    ) -> None:
        """``questions`` by form; ``shares`` (form -> weight, any positive sum) names the forms to draw from; ``steps``
        are planned, for orders that depend on how far a stage will come."""
        total = sum(shares.values())
        self.shares = {form: share / total for form, share in shares.items() if share > 0}
        self.prompts = prompts
        self.seed = seed
        self.cells: dict[str, dict[str, list[Question]]] = {}
        for form in self.shares:
            self.cells[form] = {}
            for question in questions[form]:
                self.cells[form].setdefault(question.task, []).append(question)
            assert self.cells[form], f"no question of form {form}"
        self.owed = dict.fromkeys(self.shares, 0.0)
        self.asked = {form: dict.fromkeys(self.cells[form], 0) for form in self.shares}
        self.replaced = {form: dict.fromkeys(self.cells[form], 0) for form in self.shares}  # of those asked
        # Places in the order of a cell's epoch that were asked before the ones in front of them.
        self.ahead: dict[str, dict[str, list[int]]] = {
            form: {task: [] for task in self.cells[form]} for form in self.cells
        }
        self.steps = steps
        self.epoch = epoch
        self.questions_per_image = questions_per_image
        self._orders: dict[tuple[str, str], _Order] = {}  # of a cell; made again on resume

    def draw(self, step: int) -> list[Question]:
        """The questions of one step. ``step`` is not read: the state says what was asked."""
        drawn: list[Question] = []
        for _ in range(self.prompts):
            for form, share in self.shares.items():
                self.owed[form] += share
            form = max(self.owed, key=lambda name: self.owed[name])
            self.owed[form] -= 1
            drawn.append(self._next(form, drawn))
        return drawn

    def replacement(self, question: Question) -> Question:
        """What is asked in place of ``question``, which has been asked and taught nothing."""
        self.replaced[question.form][question.task] += 1
        return self._take(question.form, question.task)

    def _next(self, form: str, drawn: Sequence[Question]) -> Question:
        asked, replaced = self.asked[form], self.replaced[form]
        task = min(asked, key=lambda name: asked[name] - replaced[name])
        place = self._companion(form, task, drawn)
        return self._take(form, task) if place is None else self._ask(form, task, place)

    def _companion(self, form: str, task: str, drawn: Sequence[Question]) -> int | None:
        """The place of a question about an image that this step asks about already, in the order of its epoch."""
        if self.questions_per_image == 1:
            return None
        order, reached, ahead = self._order(form, task), self._reached(form, task), self.ahead[form][task]
        pool, known = self.cells[form][task], {question.id for question in drawn}
        for image, count in Counter(images_key(question.images) for question in drawn if question.images).items():
            if count < self.questions_per_image:
                for place in order.of_image.get(image, ()):
                    if place >= reached and place not in ahead and pool[order.places[place]].id not in known:
                        return place
        return None

    def _take(self, form: str, task: str) -> Question:
        return self._ask(form, task, self._reached(form, task))

    def _reached(self, form: str, task: str) -> int:
        """The first place of the epoch's order that has not been asked."""
        return self.asked[form][task] % len(self.cells[form][task]) - len(self.ahead[form][task])

    def _ask(self, form: str, task: str, place: int) -> Question:
        order, ahead, reached = self._order(form, task), self.ahead[form][task], self._reached(form, task)
        self.asked[form][task] += 1
        if place > reached:
            ahead.append(place)
        else:  # and over those behind it that were asked before
            following = place + 1
            while following in ahead:
                ahead.remove(following)
                following += 1
        return self.cells[form][task][order.places[place]]

    def _order(self, form: str, task: str) -> "_Order":
        """The order of an epoch. Kept, because a step would sort thousands of items for a dozen questions."""
        pool, known = self.cells[form][task], self._orders.get((form, task))
        epoch = self.asked[form][task] // len(pool)
        if known is None or known.epoch != epoch:
            planned = round(self.steps * self.prompts * self.shares[form] / len(self.cells[form]))
            left = max(0, planned - epoch * len(pool))
            places = self.epoch(pool, left, stream(self.seed, "order", form, task, epoch))
            assert len(places) == len(pool)
            of_image: dict[tuple[str, ...], list[int]] = {}
            if self.questions_per_image > 1:
                for number, place in enumerate(places):
                    of_image.setdefault(images_key(pool[place].images), []).append(number)
            known = self._orders[form, task] = _Order(epoch=epoch, places=places, of_image=of_image)
        return known

    def state_dict(self) -> dict[str, Any]:
        return {"owed": self.owed, "asked": self.asked, "replaced": self.replaced, "ahead": self.ahead}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.owed = dict(state["owed"])
        self.asked = {form: dict(counts) for form, counts in state["asked"].items()}
        self.replaced = {form: dict(counts) for form, counts in state["replaced"].items()}
        for form, cells in state.get("ahead", {}).items():  # older checkpoints lack it: none was asked ahead
            self.ahead[form] = {task: list(places) for task, places in cells.items()}
