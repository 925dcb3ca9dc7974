"""Steps, time and disk of a run, from the recipe, the sizes of the model and the longest prompt."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from curr_reft.checks.memory import Prompt
from curr_reft.checks.model import ModelFacts
from curr_reft.disk_plan import Disk, plan_disk
from curr_reft.files import human_size
from curr_reft.policy.counting import Count
from curr_reft.recipe import Recipe

EFFICIENCY = 0.3
"""Share of this machine's matrix rate that small-batch training reaches; a rough figure."""

PASSES = 8  # of 2 operations a weight: 1 in the rollout, 3 in training


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Of the curriculum, when no gate ends a stage early."""

    updates: int
    completions: int
    resampled: int  # completions more, at most
    tokens: int  # prompts and completions of at most max_new_tokens


def steps_of(recipe: Recipe, longest: Prompt) -> Steps:
    updates = recipe.curriculum.total_steps
    prompts = updates * recipe.rl.prompts_per_step
    completions = prompts * recipe.sampling.group_size
    return Steps(
        updates=updates,
        completions=completions,
        resampled=completions * recipe.rl.resample.rounds if recipe.rl.resample else 0,
        tokens=prompts * longest.tokens + completions * recipe.sampling.max_new_tokens,
    )


def seconds_of(recipe: Recipe, facts: ModelFacts, steps: Steps, longest: Prompt) -> float:
    """Of the curriculum on this machine's default device, very roughly, and at most: no gate, longest answers."""
    patches = recipe.rl.prompts_per_step * steps.updates * longest.image_tokens * facts.patches
    operations = PASSES * (steps.tokens * facts.text + patches * facts.vision)
    return operations / (_matrix_rate(facts.dtype) * EFFICIENCY)


def disk_of(recipe: Recipe, facts: ModelFacts) -> Disk:
    return plan_disk(recipe, facts.trained_by_part, facts.parameters, getattr(torch, facts.dtype).itemsize)


def disk_problem(recipe: Recipe, disk: Disk) -> tuple[str, str] | None:
    """Less room than two checkpoints and a model take: a run would not get far."""
    least = 2 * disk.checkpoint + disk.model
    if disk.held + disk.free >= least:
        return None
    return (
        "output",
        f"{recipe.output} has {human_size(disk.free)} free, and two checkpoints with a model take {human_size(least)}; "
        "make room, or name another place",
    )


def quantiles(counts: Sequence[Count]) -> dict[str, float]:
    """Of the tokens of prompts: min, median, p95, max."""
    tokens = sorted(count.tokens for count in counts)
    return {
        "prompts": len(tokens),
        "min": tokens[0],
        "median": statistics.median(tokens),
        "p95": tokens[min(len(tokens) - 1, int(0.95 * len(tokens)))],
        "max": tokens[-1],
    }


def _matrix_rate(dtype: str) -> float:
    """Measured floating-point operations a second of a matrix product on the default device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 4096 if device == "cuda" else 512
    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        float((a @ a)[0, 0])
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
