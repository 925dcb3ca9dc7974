"""How open answers are scored, a section for each task: what ``rewards`` of a recipe holds beside its weights.

A task without options needs nothing here. What is right in evaluation (``Task.correct``) is not up to a recipe.
"""

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from curr_reft.config import Config
from curr_reft.tasks.names import normalise_name

Steps = tuple[tuple[float, float], ...]


class ThresholdConfig(Config):
    """The IoU from which on a box counts, fixed or tightened over a stage."""

    threshold: float = Field(0.5, ge=0, lt=1, description="a box counts strictly above this IoU with the truth")
    schedule: Steps = Field(
        (),
        description="[[share, threshold], ...]: from that share of the stage's steps on, this threshold; shares rise, "
        "thresholds do not fall; before the first share, threshold holds",
    )

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, schedule: Steps, info: ValidationInfo) -> Steps:
        for share, threshold in schedule:
            if not 0 <= share < 1:
                raise ValueError(f"the share {share:g} is not in [0, 1): it is the part of the stage's steps done")
            if not 0 <= threshold < 1:
                raise ValueError(f"the threshold {threshold:g} is not in [0, 1): no box has an IoU above 1")
        if any(later <= earlier for (earlier, _), (later, _) in pairwise(schedule)):
            raise ValueError("the shares must rise from step to step; write each share once, in ascending order")
        held = [threshold for _, threshold in schedule]
        if schedule and schedule[0][0] > 0 and "threshold" in info.data:
            held.insert(0, info.data["threshold"])
        if any(later < earlier for earlier, later in pairwise(held)):
            raise ValueError(
                "the thresholds must not fall: what was paid early in the stage is asked more of later; "
                "before the first share, threshold holds"
            )
        return schedule

    def threshold_at(self, progress: float) -> float:
        """The threshold that holds when the share ``progress`` in [0, 1] of the stage's steps is done."""
        return next((held for share, held in reversed(self.schedule) if share <= progress), self.threshold)


class DetectionConfig(ThresholdConfig):
    """One box an answer. The schedule tightens as in Vision-R1 (arXiv 2503.18013) and V-Triune (arXiv 2505.18129)."""

    score: Literal["threshold", "iou", "giou"] = Field(
        "threshold", description="threshold: 1 strictly above it, else 0; iou: the IoU; giou: the GIoU, at least 0"
    )

    @model_validator(mode="after")
    def _schedule_has_a_threshold(self) -> Self:
        if self.schedule and self.score != "threshold":
            raise ValueError(
                f"schedule tightens the threshold, and score: {self.score} has none; leave one of them out"
            )
        return self


class DenseDetectionConfig(ThresholdConfig):
    """All boxes of a kind an answer, matched one to one with the true ones."""

    score: Literal["f1", "precision", "recall", "iou"] = Field(
        "f1",
        description="f1, precision, recall: of the boxes matched above the threshold; iou: sum of the matched IoUs "
        "over the larger count. precision alone pays for one sure box, recall alone for listing more",
    )

    @model_validator(mode="after")
    def _schedule_has_a_threshold(self) -> Self:
        if self.schedule and self.score == "iou":
            raise ValueError("schedule tightens the threshold, and score: iou has none; leave one out")
        return self


class ClassificationConfig(Config):
    """A set of names an answer."""

    score: Literal["jaccard", "exact", "precision", "recall", "f1"] = Field(
        "jaccard",
        description="jaccard: shared names over all names; exact: 1 for the same set, else 0; precision, recall, f1 of "
        "the set. precision alone pays for one sure name, recall alone for naming everything",
    )
    aliases: dict[str, str] = Field(
        default_factory=dict,
        description="names counted as another, in truths, answers and false claims: {automobile: car, dogs: dog}",
    )

    @field_validator("aliases")
    @classmethod
    def _resolve_aliases(cls, aliases: dict[str, str]) -> dict[str, str]:
        """Normalised and followed to the end: {auto: automobile, automobile: car} is {auto: car, automobile: car}."""
        table: dict[str, str] = {}
        for alias, name in aliases.items():
            key, value = normalise_name(alias), normalise_name(name)
            if not key or not value:
                raise ValueError(f"{alias!r}: {name!r} holds no name on one side; write {{alias: name}}")
            if key == value:
                raise ValueError(
                    f"{alias!r} and {name!r} are one name already (case and punctuation do not count); leave it out"
                )
            if table.setdefault(key, value) != value:
                raise ValueError(f"{alias!r} stands for both {table[key]!r} and {value!r}; keep one of them")
        for alias in table:
            seen = [alias]
            while (following := table.get(seen[-1])) is not None:
                if following in seen:
                    raise ValueError(f"the aliases go in a circle: {' -> '.join([*seen, following])}; leave one out")
                seen.append(following)
            table[alias] = seen[-1]
        return table


class MathConfig(Config):
    """One value an answer, verified in worker processes."""

    timeout: float = Field(2.0, gt=0, le=600, description="seconds to verify one answer; beyond: no score")
    workers: int = Field(4, ge=1, le=64, description="processes that verify answers")


class TasksConfig(Config):
    """The sections of the tasks. Defaults: Curr-ReFT section 3 (threshold 0.5, Jaccard, verified)."""

    detection: DetectionConfig = DetectionConfig()
    dense_detection: DenseDetectionConfig = DenseDetectionConfig()
    classification: ClassificationConfig = ClassificationConfig()
    math: MathConfig = MathConfig()

    def for_evaluation(self) -> Self:
        """The soft measures of evaluation (IoU, F1 at 0.5, Jaccard), whatever a recipe pays in training.

        So that scores of two recipes can be compared. What only says how names are read, or how long a verification
        may take, stays.
        """
        return self.model_copy(
            update={
                "detection": DetectionConfig(score="iou"),
                "dense_detection": DenseDetectionConfig(),
                "classification": ClassificationConfig(aliases=self.classification.aliases),
            }
        )
