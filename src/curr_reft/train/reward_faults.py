"""Stops a run whose custom reward breaks down too often: a few failures cost those completions their score, many would
train on whatever the function happens to get through.

The share is that of one function's failures in the completions of ``WINDOW`` steps. It is known before the window is
full: a function that always fails stops the run in its second step. A function of weight 0 is only logged, and stops
nothing.
"""

from collections.abc import Mapping
from typing import Any

from curr_reft.errors import TrainingError
from curr_reft.rewards.config import RewardsConfig

WINDOW = 20  # steps
SHARE = 0.05  # of their completions


class RewardFaults:
    """Failures of every custom reward that is paid, in the last ``WINDOW`` steps."""

    def __init__(self, config: RewardsConfig) -> None:
        self.calls = {each.name: each.call for each in config.custom if each.weight}
        self.failed: dict[str, list[int]] = {name: [] for name in self.calls}  # by step, the oldest first

    def count(self, step: int, parts: Mapping[str, Mapping[str, Any]], completions: int) -> None:
        """Take in the ``parts`` of a step's metrics. Raises TrainingError that names the function."""
        for name, call in self.calls.items():
            self.failed[name] = [*self.failed[name], int(parts[name]["failed"])][-WINDOW:]
            failed, steps = sum(self.failed[name]), len(self.failed[name])
            if failed > SHARE * WINDOW * completions:
                raise TrainingError(
                    f"step {step}: reward {name} ({call}) broke down for {failed} of the {steps * completions} "
                    f"completions of the last {steps} steps, more than {SHARE:.0%} of {WINDOW} steps; the warning "
                    "above says how. Mend the function and begin a new run (--output), or give it weight 0"
                )

    def state_dict(self) -> dict[str, Any]:
        """Empty where no custom reward is paid."""
        return {"reward_faults": self.failed} if self.calls else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, counts in state.get("reward_faults", {}).items():  # older checkpoints lack it: counted from here
            self.failed[name] = list(counts)
