"""The ``rewards`` section of a recipe."""

from pydantic import Field, model_validator

from curr_reft.config import Config
from curr_reft.tasks.base import TaskOptions


class RewardsConfig(Config):
    """Weights of the parts and the rules of the tasks. Defaults: Curr-ReFT section 3 and the reference code."""

    format_weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="paid for the form of the completion")
    accuracy_weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="paid for the answer")
    iou_threshold: float = Field(0.5, ge=0, lt=1, description="a box is right strictly above this IoU with the truth")
    soft_iou: bool = Field(False, description="pay a box its IoU instead of 0 or 1")
    plurals: dict[str, str] = Field(default_factory=dict, description="names counted as another: {dogs: dog}")
    timeout: float = Field(5.0, gt=0, le=600, description="seconds to verify one math answer; beyond: no score")
    workers: int = Field(2, ge=1, le=64, description="processes that verify math answers")

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
