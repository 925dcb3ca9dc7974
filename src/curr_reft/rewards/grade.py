"""Grade: what a completion earned, part by part, and its state. States are not scores: they are counted apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from curr_reft.tasks.status import Status

__all__ = ["Grade", "Status"]


@dataclass(frozen=True, kw_only=True)
class Grade:
    """Parts of the reward of one completion. ``accuracy`` is None where there is no score."""

    status: Status
    format: float  # 0 or 1
    accuracy: float | None  # in [0, 1]
    correct: bool | None = None  # the strict rule of evaluation; None where there is no score
    reason: str = ""  # for statuses that need one
    extra: Mapping[str, float | None] = field(default_factory=dict)  # shaping and custom rewards; None: left out
    failed: tuple[str, ...] = ()  # custom rewards that broke down on it: with a weight, the completion has no reward

    @property
    def parts(self) -> dict[str, float | None]:
        """Every part by name, format and accuracy first."""
        return {"format": self.format, "accuracy": self.accuracy, **self.extra}
