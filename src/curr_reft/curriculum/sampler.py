"""Which questions a step asks: a mixture of forms, replay of earlier ones, the tasks in turn, items in epochs."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from curr_reft.questions.question import Question
from curr_reft.seeding import stream


class QuestionSampler:
    """Draws ``prompts`` questions a step.

    The share of a form is met over the steps, not only on average: whole numbers are carried over, so 30 % of 12
    prompts are 3, 4, 4, 3, ... Tasks take turns within a form. Items of a (form, task) cell are asked once an epoch,
    each epoch in an order of its own.
    """

    def __init__(
        self, questions: Mapping[str, Sequence[Question]], shares: Mapping[str, float], prompts: int, seed: int
    ) -> None:
        """``questions`` by form; ``shares`` (form -> weight, any positive sum) names the forms to draw from."""
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

    def _next(self, form: str) -> Question:
        asked = self.asked[form]
        task = min(asked, key=lambda name: asked[name])
        pool = self.cells[form][task]
        epoch, place = divmod(asked[task], len(pool))
        asked[task] += 1
        return pool[_order(self.seed, form, task, epoch, len(pool))[place]]

    def state_dict(self) -> dict[str, Any]:
        return {"owed": self.owed, "asked": self.asked}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.owed = dict(state["owed"])
        self.asked = {form: dict(counts) for form, counts in state["asked"].items()}


@lru_cache(maxsize=32)
def _order(seed: int, form: str, task: str, epoch: int, count: int) -> tuple[int, ...]:
    """The order of an epoch. Kept, because a step would shuffle thousands of items for a dozen questions."""
    order = list(range(count))
    stream(seed, "order", form, task, epoch).shuffle(order)
    return tuple(order)
