"""Sections of the recipe that the training loop reads."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from curr_reft.config import Config
from curr_reft.policy.config import Part

HandOn: TypeAlias = Literal["best", "last"]
TokenLimit: TypeAlias = Annotated[int, Field(ge=64)] | Literal["auto"]


class OptimizerConfig(Config):
    """AdamW and its schedule."""

    lr: float = Field(1e-6, gt=0, description="peak learning rate (the released scripts: 1e-6)")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's moment decays")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "linear", description="decay after the warm-up, over the budget"
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the budget in which the rate rises linearly from 0")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this global norm")


class ObjectiveConfig(Config):
    """What GRPO minimises (Curr-ReFT section 3.1; DeepSeekMath, arXiv 2402.03300; variants as named)."""

    loss: Literal["grpo", "dr_grpo", "dapo", "gspo"] = Field("grpo", description="variant of the policy loss")
    beta: float = Field(
        0.04, ge=0, description="weight of the KL penalty to the reference model; 0: no reference model is kept"
    )
    reference: Literal["stage", "base"] = Field(
        "stage", description="the KL anchor: the frozen start of the stage, or the base model"
    )
    clip_low: float = Field(0.2, gt=0, lt=1, description="the ratio is clipped below at 1 - clip_low")
    clip_high: float = Field(0.2, gt=0, description="the ratio is clipped above at 1 + clip_high")
    updates_per_batch: int = Field(
        1, ge=1, description="optimizer steps on one batch of rollouts; 1 is on-policy: no clipping acts"
    )


class ResampleConfig(Config):
    """Groups that agree in their outcome are replaced by other questions (DAPO, arXiv 2503.14476, section 3.2)."""

    rounds: int = Field(
        2, ge=1, description="most further rollouts of a step; groups that still agree after the last one stay"
    )
    enough: float = Field(
        1.0, gt=0, le=1, description="no further rollout once this share of the step's groups differs in the outcome"
    )


class RlConfig(Config):
    """Reinforcement learning: the same settings for every stage and for the plain-RL baseline."""

    prompts_per_step: int = Field(8, ge=1, description="prompts (groups) of one optimizer step")
    questions_per_image: int = Field(
        1,
        ge=1,
        description="questions about one image that a step asks together, as far as the data has them: the image and "
        "its tokens are computed once for all of them; 1: drawn without regard to images",
    )
    micro_batch_tokens: TokenLimit = Field(
        16_384, description="tokens of packed rows of one forward; auto: as many as fit in free memory"
    )
    resample: ResampleConfig | None = Field(
        None, description="replace groups whose completions all earned the same accuracy; null: train on what was drawn"
    )
    one_prompt_pass: bool = Field(
        False,
        description="train from the rollout's own forward over the prompts instead of computing them again, where one "
        "update of one micro-batch follows it (docs/performance.md); the same step but for rounding",
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()

    @model_validator(mode="after")
    def _fits_a_step(self) -> "RlConfig":
        if self.questions_per_image > self.prompts_per_step:
            raise ValueError(
                f"questions_per_image ({self.questions_per_image}) must not be above prompts_per_step "
                f"({self.prompts_per_step}); lower it, or ask more prompts a step"
            )
        if self.one_prompt_pass and (self.objective.updates_per_batch > 1 or self.resample is not None):
            other = "resample" if self.resample is not None else "objective.updates_per_batch above 1"
            raise ValueError(
                f"one_prompt_pass: with {other} the forward of the rollout is not that of the update; set it to false, "
                f"or leave {other} out"
            )
        return self


class SftConfig(Config):
    """Supervised fine-tuning: on kept answers (self-improvement) or on written answers (the SFT baseline)."""

    steps: int = Field(ge=1, description="optimizer steps")
    batch_size: int = Field(32, ge=1, description="examples of one optimizer step")
    max_length: int = Field(
        8192,
        ge=16,
        description="most tokens of an example, prompt, images and answer; a longer row is refused before the start, a "
        "longer sampled answer is not kept",
    )
    validation_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the examples that is not learned: its loss is noted at every checkpoint; 0: learn all",
    )
    freeze: tuple[Part, ...] | None = Field(
        None, description="parts that this training leaves as they are; null: those of model.freeze"
    )
    micro_batch_tokens: TokenLimit = Field(
        16_384, description="tokens of packed rows of one forward; auto: as many as fit in free memory"
    )
    hand_on: HandOn | None = Field(
        None,
        description="which checkpoint this training hands on; null: as checkpoint.hand_on says. Validation asks the "
        "tasks of the curriculum: it does not see what became of answers to other queries, and where it is flat, best "
        "is chance",
    )
    optimizer: OptimizerConfig = OptimizerConfig()


class CheckpointConfig(Config):
    """When a stage is scored on the validation split and saved."""

    every: int = Field(
        20, ge=1, description="optimizer steps between two checkpoints; each is scored on the validation split"
    )
    keep_last: int = Field(2, ge=1, description="checkpoints kept besides the best one")
    hand_on: HandOn = Field(
        "best",
        description="what a training hands on. best: the checkpoint with the highest validation accuracy, the start "
        "included; last: where it ended, whatever that did to validation",
    )
