"""The ``rewards`` section of a recipe."""

from typing import Annotated

from pydantic import Field, model_validator

from curr_reft.config import Config
from curr_reft.tasks.base import TaskOptions


class RewardsConfig(Config):
    """Weights of the parts and the rules of the tasks. Defaults: Curr-ReFT section 3 and the reference code."""

    format_weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    accuracy_weight: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    iou_threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5  # detection is right strictly above it
    soft_iou: bool = False  # detection is paid its IoU
    plurals: dict[str, str] = Field(default_factory=dict)  # classification: {"dogs": "dog"}
    timeout: Annotated[float, Field(gt=0.0, le=600.0)] = 5.0  # seconds for one verification of a math answer
    workers: Annotated[int, Field(ge=1, le=64)] = 2  # verification processes

    @model_validator(mode="after")
    def _something_is_paid(self) -> "RewardsConfig":
        if self.format_weight + self.accuracy_weight == 0.0:
            raise ValueError("format_weight and accuracy_weight are both 0: nothing would be paid; raise one of them")
        return self

    def task_options(self) -> TaskOptions:
        """What the graders of the tasks read of this section."""
        return TaskOptions(
            iou_threshold=self.iou_threshold,
            soft_iou=self.soft_iou,
            plurals=self.plurals,
            timeout=self.timeout,
            workers=self.workers,
        )
