"""The ``rewards`` section of a recipe: the weights of the parts, shaping, custom rewards, and the tasks' options."""

from collections import Counter
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curr_reft.config import Config
from curr_reft.tasks.base import TaskOptions
from curr_reft.tasks.config import TasksConfig
from curr_reft.user_code import split_call

OUTCOME = ("format", "accuracy")  # the parts that every completion has
SHAPING = ("length", "repetition", "agreement")  # sections of this name; what they do stands in rewards/parts.py
Unit = Literal["words", "tokens"]
LARGEST_WEIGHT = 1e6
"""Times the largest reward (``scoring.LARGEST``), sums over a step stay finite."""


class LengthConfig(Config):
    """A charge in [-1, 0] for completions that are too short or too long (DAPO, arXiv 2503.14476, equation 13)."""

    weight: float = Field(
        0.1, ge=0, le=LARGEST_WEIGHT, allow_inf_nan=False, description="weight of the charge; 0: only logged"
    )
    low: int = Field(0, ge=0, description="from this length on nothing is charged")
    high: int = Field(ge=1, description="up to this length nothing is charged")
    margin: int = Field(ge=1, description="the charge grows linearly over this many beyond low or high, then stays -1")
    unit: Unit = Field("words", description="what is counted; tokens are known in training, not to every row of grade")

    @model_validator(mode="after")
    def _check(self) -> "LengthConfig":
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}: no length would be free of charge")
        return self


class RepetitionConfig(Config):
    """A charge in [-1, 0]: the share of word runs that repeat an earlier one (arXiv 2502.03373, appendix C.2)."""

    weight: float = Field(
        0.1, ge=0, le=LARGEST_WEIGHT, allow_inf_nan=False, description="weight of the charge; 0: only logged"
    )
    ngram: int = Field(3, ge=1, description="words, or tokens, of a run")
    unit: Unit = Field("words", description="what is counted; tokens are known in training, not to every row of grade")


class AgreementConfig(Config):
    """1 where a right answer is the one that the thinking arrives at (Embodied-R, arXiv 2504.12680), else 0."""

    weight: float = Field(
        0.1, ge=0, le=LARGEST_WEIGHT, allow_inf_nan=False, description="paid for agreement; 0: only logged"
    )
    min_words: int = Field(
        5, ge=0, description="different words of its own, not of the prompt, that reasoning has before its conclusion"
    )


class CustomRewardConfig(Config):
    """A function of your own, with TRL's signature (prompts, completions, **columns) -> list of numbers or None."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="names the part in metrics, rollouts and grades")
    call: str = Field(description="path/to/file.py:function (from the recipe's folder) or package.module:function")
    weight: float = Field(
        1.0,
        ge=-LARGEST_WEIGHT,
        le=LARGEST_WEIGHT,
        allow_inf_nan=False,
        description="weight of the part; 0: only logged",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    conversational: bool = Field(
        True, description="prompts and completions are lists of messages, as TRL has them for chats; false: plain texts"
    )
    timeout: float = Field(
        300.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds that a step's completions may take it; those it has not scored then have no score",
    )
    whole_batch: bool = Field(
        False,
        description="a value depends on the other completions of the step, so that a call that raises is not repeated "
        "for parts of them and costs all their score",
    )

    @field_validator("call")
    @classmethod
    def _check_call(cls, call: str) -> str:
        split_call(call)
        return call


class RewardsConfig(TasksConfig):
    """Weights of the parts, and a section for the options of each task. Defaults: Curr-ReFT section 3."""

    format_weight: float = Field(
        1.0, ge=0, le=LARGEST_WEIGHT, allow_inf_nan=False, description="paid for the form of the completion"
    )
    accuracy_weight: float = Field(1.0, ge=0, le=LARGEST_WEIGHT, allow_inf_nan=False, description="paid for the answer")
    length: LengthConfig | None = Field(None, description="a charge on too short or too long completions; null: off")
    repetition: RepetitionConfig | None = Field(None, description="a charge on repeated words; null: off")
    agreement: AgreementConfig | None = Field(
        None, description="paid when a right answer is what the thinking arrives at; null: off"
    )
    custom: tuple[CustomRewardConfig, ...] = Field((), description="rewards of your own; see docs/extending.md")

    @field_validator("custom")
    @classmethod
    def _check_names(cls, custom: tuple[CustomRewardConfig, ...]) -> tuple[CustomRewardConfig, ...]:
        counts = Counter((*OUTCOME, *SHAPING, *(each.name for each in custom)))
        taken = [name for name, count in counts.items() if count > 1]
        if taken:
            raise ValueError(f"the name {taken[0]} is taken: every part of the reward needs its own")
        return custom

    @model_validator(mode="after")
    def _something_is_paid(self) -> "RewardsConfig":
        if not any(weight for name, weight in self.weights().items() if name not in SHAPING):
            raise ValueError(
                "format_weight and accuracy_weight are both 0, and no custom reward has a weight: nothing would be "
                "paid; raise one of them"
            )
        return self

    @model_validator(mode="after")
    def _shaping_stays_below_accuracy(self) -> "RewardsConfig":
        """A wrong answer without a charge may not be worth more than a right one with all of them."""
        charges = [each.weight for each in (self.length, self.repetition) if each is not None]
        if sum(charges) > 0 and sum(charges) >= self.accuracy_weight:
            raise ValueError(
                f"length.weight and repetition.weight together, {sum(charges):g}, are not below accuracy_weight "
                f"{self.accuracy_weight:g}: a wrong answer could be worth more than a right one; lower them"
            )
        return self

    def weights(self) -> dict[str, float]:
        """The weight of every part of the reward, by name: format, accuracy, shaping that is on, custom rewards."""
        shaping = {name: getattr(self, name).weight for name in SHAPING if getattr(self, name) is not None}
        custom = {each.name: each.weight for each in self.custom}
        return {"format": self.format_weight, "accuracy": self.accuracy_weight, **shaping, **custom}

    def task_options(self, progress: float = 1.0) -> TaskOptions:
        """What the graders of the tasks read; ``progress`` is the share of the stage's steps that is done."""
        return TaskOptions(tasks=self, progress=progress)
