"""The gate: ends a stage before its budget when the stage has taught what it can, and says why."""

from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.curriculum.config import GateConfig


class AccuracyGate:
    """Watches the mean accuracy of the stage's own forms in training rollouts, replayed forms left out.

    An update without a score of the stage's forms counts as a step and changes nothing else.
    """

    def __init__(self, config: GateConfig, forms: Sequence[str]) -> None:
        self.config = config
        self.forms = tuple(forms)
        self.steps = 0
        self.history: list[float] = []  # the last two windows
        self.held = {"accuracy": 0, "plateau": 0}  # updates in a row in which each rule held

    def update(self, metrics: Mapping[str, Any]) -> None:
        """Take the metrics of one update."""
        self.steps += 1
        cells = [metrics["by_form"][form] for form in self.forms if form in metrics["by_form"]]
        count = sum(cell["n"] for cell in cells)
        if not count:
            return
        mean = sum(cell["accuracy"] * cell["n"] for cell in cells) / count
        self.history = [*self.history, mean][-2 * self.config.window :]
        recent, before = self._recent(), self._before()
        accuracy, plateau = self.config.accuracy, self.config.plateau
        holds = {
            "accuracy": accuracy is not None and recent is not None and recent >= accuracy,
            "plateau": plateau is not None and recent is not None and before is not None and recent - before < plateau,
        }
        self.held = {rule: self.held[rule] + 1 if now else 0 for rule, now in holds.items()}

    def open(self) -> bool:
        """Whether the stage may end."""
        return self.rule() is not None

    def rule(self) -> str | None:
        """The rule that ends the stage: accuracy or plateau; None while neither does."""
        if self.steps < self.config.min_steps:
            return None
        return next((rule for rule, count in self.held.items() if count >= self.config.patience), None)

    def account(self) -> dict[str, Any]:
        """The rule that ended the stage, if one did, the two windows as the gate saw them last, and its settings."""
        return {
            "rule": self.rule(),
            "recent": self._recent(),
            "before": self._before(),
            "settings": self.config.model_dump(),
        }

    def _recent(self) -> float | None:
        """Mean accuracy over the last window; None while it is not full."""
        window = self.config.window
        return sum(self.history[-window:]) / window if len(self.history) >= window else None

    def _before(self) -> float | None:
        """Mean accuracy over the window before the last; None while it is not full."""
        window = self.config.window
        return sum(self.history[:window]) / window if len(self.history) == 2 * window else None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "history": self.history, "held": self.held}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        self.history = list(state["history"])
        self.held = dict(state["held"])
