"""Section of the recipe for evaluation: which models, which items, how the intervals are drawn."""

from typing import Literal

from pydantic import Field

from curr_reft.config import Config

Variant = Literal["base", "sft", "rl", "curr_rl", "curr_reft"]


class ProfileConfig(Config):
    """The base's pass rate by (task, form), measured by sampling before any training."""

    items: int = Field(60, ge=10, description="questions of the training split a (task, form) cell")
    samples: int = Field(4, ge=1, description="completions sampled for each")


class EvaluationConfig(Config):
    """Greedy answers to the open questions of both test splits (Curr-ReFT section 4)."""

    models: tuple[Variant, ...] = Field(
        ("base", "curr_rl", "curr_reft"), description="rows of the table; rl and sft are trained when named"
    )
    items: int | None = Field(None, ge=1, description="test items a task and split; null: all")
    bootstrap: int = Field(2000, ge=100, description="draws of test pictures, of which the 95 % intervals are made")
    gallery: int = Field(4, ge=0, description="test images a task and split shown in the report")
    profile: ProfileConfig = ProfileConfig()
