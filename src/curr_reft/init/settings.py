"""Settings that fit in the memory there is: the first of a list from full training to a small adapter."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from curr_reft.checks import memory
from curr_reft.checks.memory import Memory, Prompt
from curr_reft.checks.model import ModelFacts, describe_model
from curr_reft.errors import UsageError
from curr_reft.files import human_size
from curr_reft.policy.config import EMBEDDED, LoraConfig
from curr_reft.recipe import Recipe

USED = 0.85
"""Share of the memory that an estimated peak may take: it is an estimate, and others live on the device."""

SMALL = 100_000_000
"""Parameters up to which a model is trained in float32 on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides memory."""

    dtype: str = "bfloat16"
    lora: bool = False
    quantize: bool = False
    gradient_checkpointing: bool = False
    group_size: int = 8
    rows_at_once: int = 256  # decoded together

    @property
    def small(self) -> bool:
        """Whether these are the settings of a tiny model."""
        return self.dtype == "float32"

    @property
    def max_new_tokens(self) -> int:
        return 64 if self.small else 256

    def told(self) -> str:
        parts = [
            "an adapter (LoRA)" if self.lora else "all weights are trained",
            *(["the base in 4 bits"] if self.quantize else []),
            self.dtype,
            *(["activations are recomputed"] if self.gradient_checkpointing else []),
            f"groups of {self.group_size}",
        ]
        return ", ".join(parts)


LADDER = (
    Settings(),
    Settings(gradient_checkpointing=True),
    Settings(lora=True),
    Settings(lora=True, gradient_checkpointing=True),
    Settings(lora=True, gradient_checkpointing=True, group_size=4),
    Settings(lora=True, quantize=True, gradient_checkpointing=True),
    Settings(lora=True, quantize=True, gradient_checkpointing=True, group_size=4),
)
"""What learns most comes first; each of the following needs less."""


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """The settings, and what was found on the way to them."""

    settings: Settings
    memory: Memory | None
    tried: Sequence[str] = field(default_factory=list)  # those before, and why not


def with_settings(recipe: Recipe, settings: Settings) -> Recipe:
    """The recipe trained so."""
    model: dict[str, Any] = {
        "dtype": settings.dtype,
        "lora": LoraConfig() if settings.lora else None,
        "quantize": "nf4" if settings.quantize else None,
        "gradient_checkpointing": settings.gradient_checkpointing,
    }
    return recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update=model),
            "sampling": recipe.sampling.model_copy(
                update={
                    "group_size": settings.group_size,
                    "rows_at_once": settings.rows_at_once,
                    "max_new_tokens": settings.max_new_tokens,
                }
            ),
        }
    )


def fit(recipe: Recipe, facts: ModelFacts, longest: Prompt, room: int, where: str, on_gpu: bool) -> Fitting:
    """The first settings whose estimated peak leaves something of ``room`` bytes. Raises UsageError for none."""
    tried: list[str] = []
    for rung in ladder(recipe.model.path, facts, on_gpu):
        candidate = with_settings(recipe, rung)
        _, own = describe_model(candidate.model)
        estimated = memory.estimate(candidate, own, longest, on_gpu)
        if not room:
            return Fitting(settings=rung, memory=estimated, tried=tried)
        if estimated.peak <= USED * room:
            rows = _rows_at_once(candidate, own, longest, int(USED * room) - estimated.held)
            return Fitting(settings=replace(rung, rows_at_once=rows), memory=estimated, tried=tried)
        tried.append(f"{rung.told()}: {human_size(estimated.peak)}")
    raise UsageError(
        f"--gpu-memory: {recipe.model.path} cannot be trained in {human_size(room)} of {where}; estimated are "
        f"{'; '.join(tried)}. Take a smaller model, or a larger GPU"
    )


def _rows_at_once(recipe: Recipe, facts: ModelFacts, longest: Prompt, room: int) -> int:
    """Rows that can be decoded together in ``room`` bytes, of greedy answers too, each with a prompt of its own."""
    rows = recipe.sampling.rows_at_once
    # As many prompts as rows, so that the recipe's own bound is not the one that counts.
    while rows > recipe.sampling.group_size and memory.decoding(recipe, facts, longest, rows, 1) > room:
        rows //= 2
    return rows


def ladder(path: str, facts: ModelFacts, on_gpu: bool) -> list[Settings]:
    """The settings that are possible for the model."""
    if path == EMBEDDED or (not on_gpu and facts.parameters <= SMALL):
        return [Settings(dtype="float32")]
    # Weights in 4 bits need a GPU of Nvidia's.
    return [rung for rung in LADDER if on_gpu or not rung.quantize]
