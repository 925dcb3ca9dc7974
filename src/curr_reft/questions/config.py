"""Section of the recipe for the wording of questions."""

from typing import Literal

from pydantic import Field

from curr_reft.config import Config


class QuestionsConfig(Config):
    """How an Item is worded for the model."""

    style: Literal["short", "full"] | None = Field(
        None,
        description="short: the bare question; full: with the form of the answer explained; null: as fits the model",
    )
    options: int = Field(4, ge=2, le=26, description="options of a choice question")
    families: dict[str, list[str]] = Field(
        default_factory=dict,
        description="categories that are easily confused, as {animal: [dog, cat]}: false claims come from there first",
    )
    draw_boxes: bool = Field(
        False, description="draw a claimed box on the image, in red, instead of writing its coordinates"
    )
