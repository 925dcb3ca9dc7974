"""One training run from a start to a published model: a stage, a baseline, or the fine-tuning of phase 2.

Each starts from published weights whose hash is checked, trains until its gate or budget, and publishes its best
checkpoint with a manifest that the next one reads. What is published is never trained again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from curr_reft import processes
from curr_reft.errors import CheckpointError, UsageError
from curr_reft.integrity import Entry, file_entry
from curr_reft.parquet import write_rows
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_policy, model_folder, save_policy
from curr_reft.policy.policy import Policy
from curr_reft.train.checkpoint import retire
from curr_reft.train.config import CheckpointConfig, OptimizerConfig
from curr_reft.train.loop import Gate, Journal, Plan, Progress, Validation, restore_best, train_loop
from curr_reft.train.master_weights import MasterWeights
from curr_reft.train.objective import Objective
from curr_reft.train.publish import Published, publish, read_published, same_weights, weights_hash


@dataclass(frozen=True, kw_only=True)
class Start:
    """The model a training starts from. ``sha256`` is None for a model on the hub, which its revision names."""

    path: str
    sha256: str | None

    @classmethod
    def of_model(cls, path: str) -> "Start":
        """The base model of a recipe: ``embedded``, a folder or a hub name. Raises UsageError."""
        folder = model_folder(path)
        if not Path(folder).is_dir():
            return cls(path=folder, sha256=None)
        try:
            return cls(path=folder, sha256=weights_hash(Path(folder)))
        except CheckpointError as error:
            raise UsageError(f"model.path: {error}; give the folder of a model saved as safetensors") from error

    @classmethod
    def of_published(cls, published: Published) -> "Start":
        return cls(path=str(published.model), sha256=published.weights_sha256)

    def require_unchanged(self) -> None:
        """To be asked before every load, by all processes: hours may lie between publishing and loading, and what is
        trained, sampled or scored goes down as that of ``sha256``. Raises CheckpointError."""
        now = None if self.sha256 is None else processes.on_main(lambda: weights_hash(Path(self.path)))
        if now != self.sha256:
            raise CheckpointError(
                f"the weights in {self.path} changed while the run worked (sha256 {self.sha256} -> {now}); put the old "
                "ones back and go on with --resume"
            )


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one training is to do."""

    folder: Path
    model: ModelConfig
    start: Start
    objective: Callable[[Policy], Objective]
    budget: int
    optimizer: OptimizerConfig
    checkpoint: CheckpointConfig
    seed: int
    validate: Callable[[Policy], Validation]
    journal: Journal
    gate: Gate | None = None
    record: Mapping[str, Any] = field(default_factory=dict)  # goes into the manifest as it is
    account: Callable[[], Mapping[str, Any]] = dict  # asked when training is over; goes into the manifest too


def run_training(training: Training) -> Published:
    """Train and publish; a training that was published before is returned as it is.

    Raises CheckpointError when the start is not the one an earlier attempt began with, TrainingError.
    """
    finished = processes.on_main(partial(read_published, training.folder))
    if finished is not None:
        if finished.record["start_sha256"] != training.start.sha256:
            raise CheckpointError(
                f"{training.folder} was trained from weights {finished.record['start_sha256']}, but its start now has "
                f"{training.start.sha256}; remove {training.folder} and resume"
            )
        processes.on_main(partial(_retire, training, finished))  # a kill may have come before it
        return finished
    training.start.require_unchanged()
    # An adapter is drawn from the global generator, whose state depends on what this process did before.
    torch.manual_seed(training.seed)
    policy = _load(training)
    progress = train_loop(
        policy,
        training.objective(policy),
        Plan(
            folder=training.folder,
            budget=training.budget,
            optimizer=training.optimizer,
            checkpoint=training.checkpoint,
            seed=training.seed,
            validate=training.validate,
            journal=training.journal,
            save_records=_save_rollouts,
            gate=training.gate,
            start_sha256=training.start.sha256,
        ),
    )
    record: dict[str, Any] = {
        **training.record,
        "steps": progress.step,
        "budget": training.budget,
        "ended_by": progress.ended_by,
        "chosen_step": progress.best_step,
        "validation": progress.validations,
        "first": progress.first,
        "last": progress.last,
        "rollouts": progress.rollouts,
        "start_sha256": training.start.sha256,
        **training.account(),
    }

    def save(path: Path) -> None:
        save_policy(policy if policy.sharding is None else _best(training, progress), path)
        record["unchanged"] = progress.best_step == 0 or same_weights(path, Path(training.start.path))

    training.journal.sync()  # which also asks whether the run directory is still this run's

    def hand_on() -> Published:
        needed = sum(parameter.nbytes for parameter in policy.core.parameters())
        published = publish(training.folder, save, record, needed)
        _retire(training, published)
        return published

    return processes.on_main(hand_on)


def _save_rollouts(path: Path, rows: Iterable[Mapping[str, Any]]) -> Entry:
    """Write a rollout file; its size and hash."""
    write_rows(path, rows)
    return file_entry(path)


def _retire(training: Training, published: Published) -> None:
    """Nobody goes on from the checkpoints of what is published: the last and the best stay, to be looked at."""
    retire(training.folder / "checkpoints", training.checkpoint.keep_last, int(published.record["chosen_step"]))


def _load(training: Training) -> Policy:
    return load_policy(training.model.model_copy(update={"path": training.start.path}))


def _best(training: Training, progress: Progress) -> Policy:
    """The best checkpoint in a policy of its own: one whose weights are shards cannot be saved by one process."""
    policy = _load(training)
    restore_best(MasterWeights(policy.model), training.folder, progress)
    return policy
