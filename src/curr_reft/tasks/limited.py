"""A task of a recipe's own, each of whose methods has a time limit: one that hangs on some text costs that answer its
score, or makes a row a bad one, and not the run its end (``time_limit.py``).
"""

from typing import Any

from curr_reft.data.item import UnverifiedTruthError
from curr_reft.errors import RecipeError
from curr_reft.process_state import keep
from curr_reft.tasks.base import Task
from curr_reft.tasks.status import PATIENCE, GradingTimeoutError
from curr_reft.time_limit import TimeLimitReached, limited

GRADING = ("parse", "well_formed", "copied", "score", "correct", "verification")
WHOLE_SETS = ("pool", "corpus_scores")  # are given many items or answers: the limit is that of each


class LimitedTask:
    """``own`` with every call limited to its ``timeout`` seconds."""

    def __init__(self, own: Task, timeout: float, call: str) -> None:
        self.own = own
        self.timeout = timeout
        self.call = call  # as the recipe names the class

    def __getattr__(self, name: str) -> Any:
        """What the task has of that name. A method raises GradingTimeoutError (no score), UnverifiedTruthError
        (read_truth, after a second try) or RecipeError (while questions are made) where its time is up."""
        value = getattr(self.own, name)
        if not callable(value) or name.startswith("_"):
            return value

        def call(*given: Any, **named: Any) -> Any:
            seconds = self.timeout * (max(1, len(given[0])) if name in WHOLE_SETS else 1)
            what = f"{name} of task {self.own.name} ({self.call})"
            for patience in (1, PATIENCE) if name == "read_truth" else (1,):
                try:
                    with keep(what), limited(patience * seconds, what):
                        return value(*given, **named)
                except TimeLimitReached:
                    continue
            said = f"{what} took longer than its timeout of {seconds:g} s"
            if name in GRADING:
                raise GradingTimeoutError(said)
            if name == "read_truth":
                raise UnverifiedTruthError(f"{str(given[0])[:120]!r}: {said}, and than {PATIENCE} times that")
            raise RecipeError(f"{said}; correct the class, or give it more time (timeout)")

        return call
