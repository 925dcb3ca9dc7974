"""Which questions a step asks: a mixture of forms, replay of earlier ones, the tasks in turn, items in epochs."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from curr_reft.curriculum.difficulty import shuffled
from curr_reft.questions.question import Question
from curr_reft.seeding import stream

Epoch: TypeAlias = Callable[[Sequence[Question], int, random.Random], list[int]]
"""(questions of a cell, how many prompts are planned from here on, generator) -> places in the order of an epoch."""


class QuestionSampler:
    """Draws ``prompts`` questions a step.

    The share of a form is met over the steps, not only on average: whole numbers are carried over, so 30 % of 12
    prompts are 3, 4, 4, 3, ... Tasks take turns within a form. A (form, task) cell is asked in epochs, each in an order
    of its own, which ``epoch`` makes: by default every question once, at random.

    A replacement is the next question of the same cell. Shares and turns count what was dealt, not what was replaced,
    so the mixture of a step stays what it was; a cell that is replaced more often comes to its next epoch sooner.
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
        self.steps = steps
        self.epoch = epoch
        self._orders: dict[tuple[str, str], tuple[int, list[int]]] = {}  # cell -> (epoch, order); made again on resume

    def draw(self, step: int) -> list[Question]:
        """The questions of one step. ``step`` is not read: the state says what was asked."""
        drawn = []
        for _ in range(self.prompts):
            for form, share in self.shares.items():
                self.owed[form] += share
            form = max(self.owed, key=lambda name: self.owed[name])
            self.owed[form] -= 1
            drawn.append(self._next(form))
        return drawn

    def replacement(self, question: Question) -> Question:
        """What is asked in place of ``question``, which has been asked and taught nothing."""
        self.replaced[question.form][question.task] += 1
        return self._take(question.form, question.task)

    def _next(self, form: str) -> Question:
        asked, replaced = self.asked[form], self.replaced[form]
        return self._take(form, min(asked, key=lambda name: asked[name] - replaced[name]))

    def _take(self, form: str, task: str) -> Question:
        asked, pool = self.asked[form], self.cells[form][task]
        epoch, place = divmod(asked[task], len(pool))
        asked[task] += 1
        return pool[self._order(form, task, epoch)[place]]

    def _order(self, form: str, task: str, epoch: int) -> list[int]:
        """The order of an epoch. Kept, because a step would sort thousands of items for a dozen questions."""
        known = self._orders.get((form, task))
        if known is None or known[0] != epoch:
            pool = self.cells[form][task]
            planned = round(self.steps * self.prompts * self.shares[form] / len(self.cells[form]))
            left = max(0, planned - epoch * len(pool))
            order = self.epoch(pool, left, stream(self.seed, "order", form, task, epoch))
            assert len(order) == len(pool)
            known = self._orders[form, task] = (epoch, order)
        return known[1]

    def state_dict(self) -> dict[str, Any]:
        return {"owed": self.owed, "asked": self.asked, "replaced": self.replaced}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.owed = dict(state["owed"])
        self.asked = {form: dict(counts) for form, counts in state["asked"].items()}
        self.replaced = {form: dict(counts) for form, counts in state["replaced"].items()}
