"""Grade: what a completion earned, and its state. States are not scores: they are counted apart."""

from dataclasses import dataclass

from curr_reft.tasks.status import Status

__all__ = ["Grade", "Status"]


@dataclass(frozen=True, kw_only=True)
class Grade:
    """Parts of the reward of one completion, each in [0, 1]. ``accuracy`` is None where there is no score."""

    status: Status
    format: float
    accuracy: float | None
    correct: bool | None = None  # the strict rule of evaluation; None where there is no score
    reason: str = ""  # for statuses that need one

    @property
    def scored(self) -> bool:
        return self.accuracy is not None
