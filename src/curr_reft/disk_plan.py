"""How much disk a run comes to hold, and whether what is free is enough to begin or to go on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_reft.files import free_space, human_size, require_space
from curr_reft.planned import PlannedTraining, planned_trainings
from curr_reft.policy.config import Part
from curr_reft.recipe import Recipe

NUMBER = 4  # bytes of a float32: weights in checkpoints are held so, whatever the model computes in
WITH_OPTIMIZER = 3 * NUMBER  # the weight and both moments of AdamW
SLACK = 1 << 16  # headers, JSON files, folder entries of a checkpoint


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Bytes that the run directory comes to hold, at most, without rollouts, answers, pictures and tokenizers."""

    checkpoint: int  # the largest, with the optimizer
    checkpoints: int
    model: int  # one published model
    models: int  # published ones, and the final
    held: int  # of all that, what is there already
    free: int

    @property
    def needed(self) -> int:
        return self.checkpoints + self.models

    @property
    def enough(self) -> bool:
        return self.needed <= self.held + self.free


def plan_disk(recipe: Recipe, trained: Mapping[Part, int], parameters: int, itemsize: int) -> Disk:
    """Of a run of ``recipe`` whose model has ``parameters`` of ``itemsize`` bytes. ``trained``: numbers that a training
    updates in each part of the model which it does not freeze; with LoRA those of the adapter there.

    A training that is over keeps its last checkpoints and the best, without optimizers. The one under way may keep the
    best as of each of these too, all with optimizers, and writes a new one before an old one goes.
    """
    trainings = planned_trainings(recipe)
    checkpoint = most = over = 0
    for training in trainings:
        numbers = sum(count for part, count in trained.items() if part not in training.freeze)
        whole = WITH_OPTIMIZER * numbers + SLACK
        under_way, left = _kept(recipe, training)
        checkpoint, most = max(checkpoint, whole), max(most, over + under_way * whole)
        over += left * (NUMBER * numbers + SLACK)
    beside = sum(trained.values()) if recipe.model.quantize else 0  # of a model in 4 bits the adapter stands beside it
    model = parameters * itemsize + NUMBER * beside
    return Disk(
        checkpoint=checkpoint,
        checkpoints=max(most, over),
        model=model,
        models=(len(trainings) + 1) * model,
        held=sum(_size(path) for path in _weights(recipe.output)),
        free=free_space(recipe.output),
    )


def _kept(recipe: Recipe, training: PlannedTraining) -> tuple[int, int]:
    """Checkpoints there are at most while a training is under way, and once it is over."""
    keep = recipe.checkpoint.keep_last
    saves = 1 + math.ceil(training.budget / recipe.checkpoint.every)  # the start is one
    best = training.hand_on == "best"  # else the best is the last
    return min(saves, keep * (1 + best) + 1), min(saves, keep + best)


def told(disk: Disk, output: Path) -> str:
    """The estimate in a line."""
    there = f", {human_size(disk.held)} of it there" if disk.held else ""
    short = "" if disk.enough else "; that is not enough"
    return f"disk: at most {human_size(disk.needed)} in {output}{there}, {human_size(disk.free)} free{short}"


def require_room(recipe: Recipe, phases: Mapping[str, Any], disk: Disk) -> None:
    """Raise DiskFullError where a run would not get far: two checkpoints must fit, as a new one is written before the
    one it replaces goes. Those of a training that is under way count as room that it has. ``phases`` are over."""
    planned = planned_trainings(recipe)
    last = max((place for place, training in enumerate(planned) if training.name in phases), default=-1)
    if last + 1 == len(planned):
        return  # nothing is left to train
    room = sum(_size(path) for path in _weights(recipe.output) if _is_under_way(path))
    require_space(recipe.output, max(disk.checkpoint, 2 * disk.checkpoint - room))


def _weights(run: Path) -> list[Path]:
    return list(run.rglob("*.safetensors")) if run.is_dir() else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a run in this directory pruned it since it was listed
        return 0


def _is_under_way(path: Path) -> bool:
    """Whether a file of weights is that of a checkpoint (TRAINING/checkpoints/step-N/) whose training is not over."""
    folder = path.parent.parent
    return folder.name == "checkpoints" and not (folder.parent / "manifest.json").is_file()
