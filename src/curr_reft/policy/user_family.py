"""A model family of a user's own, which ``model.family`` names: an entry of ``FAMILIES`` from a file outside."""

from dataclasses import dataclass

from transformers import ProcessorMixin

from curr_reft.errors import RecipeError
from curr_reft.policy import image_text
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.families import FAMILIES, Family
from curr_reft.user_code import UserCode, load

KEY = "model.family"
_own: set[str] = set()  # model types in FAMILIES that recipes brought along


@dataclass(frozen=True, kw_only=True)
class OwnFamily:
    """What a file says of a ``model_type`` of transformers that the house does not know."""

    model_type: str
    family: Family
    processor: type[ProcessorMixin]  # its official class, given an image processor on PIL and a tokenizer


def use_family(config: ModelConfig) -> UserCode | None:
    """Make the family that the recipe names known. Returns its code. Raises RecipeError."""
    if config.family is None:
        return None
    code = load(config.family, KEY)
    named, where = code.value, f"{KEY} = {config.family}"
    if not isinstance(named, OwnFamily):
        raise RecipeError(f"{where} is no OwnFamily of curr_reft.policy.user_family but {type(named).__name__}")
    if named.model_type in FAMILIES and named.model_type not in _own:
        raise RecipeError(f"{where}: the family {named.model_type!r} is known already; leave model.family out")
    _own.add(named.model_type)
    FAMILIES[named.model_type] = named.family
    image_text.OFFICIAL[named.model_type] = named.processor
    return code
