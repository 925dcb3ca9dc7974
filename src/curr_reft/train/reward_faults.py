"""Stops a run whose custom reward or own task breaks down too often: a few failures cost those completions their score,
many would train on whatever the code happens to get through.

The share is that of one function's (one class's) failures in the completions of ``WINDOW`` steps. It is known before
the window is full: a function that always fails stops the run in its second step. A function of weight 0 is only
logged, and stops nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.errors import TrainingError
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Status
from curr_reft.tasks.user import own_tasks
from curr_reft.train.graded import GradedGroup

WINDOW = 20  # steps
SHARE = 0.05  # of their completions
BROKEN = (Status.TIMED_OUT, Status.GRADER_FAILED)


class RewardFaults:
    """Failures of every custom reward that is paid, and of every task of the recipe's own, in the last ``WINDOW``
    steps."""

    def __init__(self, config: RewardsConfig) -> None:
        self.calls = {each.name: f"reward {each.name} ({each.call})" for each in config.custom if each.weight}
        self.calls |= {_task_key(name): f"task {name} ({call})" for name, call in own_tasks().items()}
        self.failed: dict[str, list[int]] = {name: [] for name in self.calls}  # by step, the oldest first

    def count(
        self, step: int, parts: Mapping[str, Mapping[str, Any]], completions: int, graded: Sequence[GradedGroup] = ()
    ) -> None:
        """Take in the ``parts`` of a step's metrics, and what its own tasks made of the answers. Raises TrainingError
        that names the function or the class."""
        broken = [
            (_task_key(each.question.task), grade.reason)
            for each in graded
            for grade in each.grades_G
            if grade.status in BROKEN and not grade.failed
        ]
        for name, told in self.calls.items():
            reasons = [reason for key, reason in broken if key == name]
            new = int(parts[name]["failed"]) if name in parts else len(reasons)
            self.failed[name] = [*self.failed[name], new][-WINDOW:]
            failed, steps = sum(self.failed[name]), len(self.failed[name])
            if failed > SHARE * WINDOW * completions:
                why = f"the last: {reasons[-1]}" if reasons else "the warning above says how"
                way = "give it weight 0" if name in parts else "leave its rows out"
                raise TrainingError(
                    f"step {step}: {told} broke down for {failed} of the {steps * completions} "
                    f"completions of the last {steps} steps, more than {SHARE:.0%} of {WINDOW} steps; {why}. "
                    f"Mend it and begin a new run (--output), or {way}"
                )

    def state_dict(self) -> dict[str, Any]:
        """Empty where no custom reward is paid and no task is the recipe's own."""
        return {"reward_faults": self.failed} if self.calls else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, counts in state.get("reward_faults", {}).items():  # older checkpoints lack it: counted from here
            self.failed[name] = list(counts)


def _task_key(name: str) -> str:
    return f"task {name}"  # no reward has a space in its name
