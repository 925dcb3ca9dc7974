"""The gate: ends a stage before its budget when the stage has taught what it can."""

from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.curriculum.config import GateConfig


class AccuracyGate:
    """Watches the mean accuracy of the stage's own forms in training rollouts, replayed forms left out."""

    def __init__(self, config: GateConfig, forms: Sequence[str]) -> None:
        self.config = config
        self.forms = tuple(forms)
        self.steps = 0
        self.history: list[float] = []  # the last two windows

    def update(self, metrics: Mapping[str, Any]) -> None:
        """Take the metrics of one update. An update without a score of the stage's forms only counts as a step."""
        self.steps += 1
        cells = [metrics["by_form"][form] for form in self.forms if form in metrics["by_form"]]
        count = sum(cell["n"] for cell in cells)
        if count:
            mean = sum(cell["accuracy"] * cell["n"] for cell in cells) / count
            self.history = [*self.history, mean][-2 * self.config.window :]

    def open(self) -> bool:
        """Whether the stage may end."""
        window = self.config.window
        if self.steps < self.config.min_steps or len(self.history) < window:
            return False
        recent = sum(self.history[-window:]) / window
        if self.config.accuracy is not None and recent >= self.config.accuracy:
            return True
        if self.config.plateau is not None and len(self.history) == 2 * window:
            return recent - sum(self.history[:window]) / window < self.config.plateau
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "history": self.history}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        self.history = list(state["history"])
