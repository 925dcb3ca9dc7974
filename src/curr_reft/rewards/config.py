"""The ``rewards`` section of a recipe."""

from pydantic import Field, model_validator

from curr_reft.tasks.base import TaskOptions
from curr_reft.tasks.config import TasksConfig


class RewardsConfig(TasksConfig):
    """Weights of the parts, and a section for the options of each task. Defaults: Curr-ReFT section 3."""

    format_weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="paid for the form of the completion")
    accuracy_weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="paid for the answer")

    @model_validator(mode="after")
    def _something_is_paid(self) -> "RewardsConfig":
        if self.format_weight + self.accuracy_weight == 0.0:
            raise ValueError("format_weight and accuracy_weight are both 0: nothing would be paid; raise one of them")
        return self

    def task_options(self, progress: float = 1.0) -> TaskOptions:
        """What the graders of the tasks read; ``progress`` is the share of the stage's steps that is done."""
        return TaskOptions(tasks=self, progress=progress)
