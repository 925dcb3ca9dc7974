"""One loop for every objective: prepare, forward, backward, guard, clip, step, log, validate, save, end.

Nothing random is hidden in it: all that a step draws comes from the seed and the step, so that going on from a
checkpoint gives the same weights, bit for bit on a CPU in float32.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin

from curr_reft import launch, processes, stopping
from curr_reft.errors import CheckpointError, TrainingError, UsageError
from curr_reft.integrity import Entry, differing_file
from curr_reft.policy.policy import Policy
from curr_reft.policy.sharding import is_shard, shard, whole
from curr_reft.train import checkpoint as checkpoints
from curr_reft.train.back_off import accumulate
from curr_reft.train.config import CheckpointConfig, HandOn, OptimizerConfig
from curr_reft.train.gradients import add_gradients
from curr_reft.train.master_weights import MasterWeights
from curr_reft.train.objective import Objective, StepBatch
from curr_reft.train.optimizer_state import optimizer_tensors, restore_optimizer
from curr_reft.train.schedule import learning_rate


@dataclass(frozen=True, kw_only=True)
class Validation:
    """How a checkpoint does on the validation split: means over the tasks of strict accuracy and of score."""

    accuracy: float
    score: float
    tasks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Gate(Protocol):
    """May end the loop before its budget."""

    def update(self, metrics: Mapping[str, Any]) -> None: ...

    def open(self) -> bool: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Journal:
    """Where a loop notes its metrics."""

    log: Callable[[Mapping[str, Any]], None]
    rewind: Callable[[int, bool], None]  # forget what was noted after this step; False: and its own validation
    sync: Callable[[], None]  # force it to the disk: a checkpoint must not be ahead of its metrics


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a loop is to do, apart from the policy and the objective."""

    folder: Path  # checkpoints/ and rollouts/ are made in it
    budget: int  # updates
    optimizer: OptimizerConfig
    checkpoint: CheckpointConfig
    seed: int  # of this loop: derived from the run's seed and the loop's name
    validate: Callable[[Policy], Validation]
    journal: Journal
    save_records: Callable[[Path, Iterable[Mapping[str, Any]]], Entry] | None = None
    gate: Gate | None = None
    start_sha256: str | None = None  # of the weights the policy comes with; a checkpoint from others is refused


@dataclass
class Progress:
    """The loop's own state. All of it is in every checkpoint."""

    step: int = 0
    validations: list[dict[str, Any]] = field(default_factory=list)
    best_step: int = 0
    ended_by: str | None = None
    first: dict[str, float] = field(default_factory=dict)  # reward and accuracy of the first updates
    last: dict[str, float] = field(default_factory=dict)
    window: list[dict[str, Any]] = field(default_factory=list)
    rollouts: dict[str, Entry] = field(default_factory=dict)  # rollout file -> size and hash, as it was written

    def is_validated(self) -> bool:
        """Whether the weights of ``step`` were scored: not where a run was asked to stop between two save points."""
        return bool(self.validations) and self.validations[-1]["step"] == self.step


ROLLOUTS = "rollouts"
WINDOW = 5  # updates whose mean is reported as the first and the last reward of a loop


def train_loop(policy: Policy, objective: Objective, plan: Plan) -> Progress:
    """Train until the gate or the budget; on return ``policy`` holds the weights of the best checkpoint.

    Goes on from the last complete checkpoint in ``plan.folder`` when there is one. Of several processes, each brings
    the gradients of its own groups; where the launcher asks for FSDP2 the policy's weights are sharded from here on,
    and stay those of the last step (``restore_best`` gives the best to another). Raises TrainingError when a loss or
    a gradient is not finite (before the optimizer's step, so the last checkpoint is clean), CheckpointError.

    A run that is asked to stop (``stopping``) leaves by Stopped, with a checkpoint of the last finished step.
    """
    with stopping.held():
        return _train_loop(policy, objective, plan)


def _train_loop(policy: Policy, objective: Objective, plan: Plan) -> Progress:
    accelerator = Accelerator()
    if launch.sharded():
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2)  # reads what the launcher says
        policy.sharding = shard(policy.core, reshard_after_forward=bool(plugin.reshard_after_forward))
    weights = MasterWeights(policy.model)
    parameters = weights.held
    if not parameters:
        raise UsageError("model.freeze freezes every part and model.lora is not set: nothing is left to train")
    optimizer = torch.optim.AdamW(
        parameters.values(),
        lr=plan.optimizer.lr,
        betas=plan.optimizer.betas,
        eps=plan.optimizer.eps,
        weight_decay=plan.optimizer.weight_decay,
        fused=True,  # one pass over each parameter instead of a dozen operations on it
    )
    folder = plan.folder / "checkpoints"
    progress = Progress()
    records: list[Mapping[str, Any]] = []  # of the steps since the last save point
    saved = processes.on_main(partial(checkpoints.last_complete, folder))
    if saved is None:
        plan.journal.rewind(-1, False)
    else:
        loaded = checkpoints.load(saved)
        if loaded.state["start_sha256"] != plan.start_sha256:
            raise CheckpointError(
                f"{saved.path} was trained from weights {loaded.state['start_sha256']}, but its start now has "
                f"{plan.start_sha256}; remove {plan.folder} and go on with --resume"
            )
        if loaded.retired and loaded.state["progress"]["ended_by"] is None:
            raise CheckpointError(
                f"{saved.path} has no optimizer any more, as its training was over; remove {plan.folder} and "
                "go on with --resume"
            )
        weights.restore(loaded.tensors["model"])
        restore_optimizer(optimizer, parameters.items(), loaded.tensors.get("optimizer", {}))
        progress = Progress(**loaded.state["progress"])
        processes.on_main(partial(_require_rollouts, plan.folder, progress))
        objective.load_state_dict(loaded.state["objective"])
        if plan.gate is not None:
            plan.gate.load_state_dict(loaded.state["gate"])
        plan.journal.rewind(progress.step, progress.is_validated())
        records = loaded.state.get("records", [])
    state = partial(_state, objective, plan, progress)
    newest = saved.step if saved is not None else None  # of the checkpoints
    while True:
        standing = state(records)
        try:
            if _is_due(progress, plan) and not progress.is_validated():
                _save_point(policy, optimizer, plan, progress, parameters, state, records)
                records, newest = [], progress.step
            elif progress.ended_by is not None:
                break
            else:
                records = [*records, *_step(policy, weights, objective, optimizer, accelerator, plan, progress)]
        except stopping.Stopped:
            # What the step that is left changed (questions drawn, a budget lowered) is not in what stood before it.
            if newest != progress.step:
                _save(optimizer, plan, progress, parameters, standing)
            raise
    if policy.sharding is None:
        restore_best(weights, plan.folder, progress)
    return progress


def _require_rollouts(folder: Path, progress: Progress) -> None:
    """Raise CheckpointError where a rollout file was changed since it was written. One that was removed is no fault:
    nothing is computed from it again."""
    problem = differing_file(folder / ROLLOUTS, progress.rollouts)
    if problem is not None:
        raise CheckpointError(f"{problem}; put it back, or remove it or {folder}, and repeat the run with --resume")


def _step(
    policy: Policy,
    weights: MasterWeights,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    plan: Plan,
    progress: Progress,
) -> tuple[Mapping[str, Any], ...]:
    """One update. Returns the rows for the rollout files. Left by Stopped, it has changed no weight and no progress."""
    step = progress.step + 1
    started = time.perf_counter()
    torch.manual_seed(plan.seed + step)  # dropout and the like; sampling has generators of its own
    with stopping.released():
        batch = objective.prepare(step)
    torch.manual_seed(plan.seed + step)  # again: a reward may have drawn from torch's generator
    prepared = time.perf_counter()
    rate = learning_rate(plan.optimizer, step, plan.budget)
    update = _update(policy, weights, objective, optimizer, accelerator, batch, rate, plan, step)
    trained = time.perf_counter()
    progress.step = step
    _remember(progress, batch)
    if plan.gate is not None:
        plan.gate.update(batch.metrics)
    if step >= plan.budget:
        progress.ended_by = "budget"
    elif plan.gate is not None and plan.gate.open():
        progress.ended_by = "gate"
    total = time.perf_counter() - started
    known = {**batch.seconds, "train": trained - prepared}
    seconds = {**known, "rest": total - sum(known.values())}
    plan.journal.log(
        {
            "kind": "train",
            "step": step,
            **batch.metrics,
            **update,
            "lr": rate,
            "tokens_per_second": batch.tokens / total,
            "seconds": {name: round(value, 5) for name, value in seconds.items()},
        }
    )
    return batch.records


def restore_best(weights: MasterWeights, folder: Path, progress: Progress) -> None:
    """Give ``weights`` those of the best checkpoint of the loop that ran in ``folder``. Raises CheckpointError."""
    best = checkpoints.load(checkpoints.at_step(folder / "checkpoints", progress.best_step), only=["model"])
    weights.restore(best.tensors["model"])


def _update(
    policy: Policy,
    weights: MasterWeights,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    batch: StepBatch,
    rate: float,
    plan: Plan,
    step: int,
) -> dict[str, float]:
    """Optimizer steps on one batch; the metrics of the last. A batch without micro-batches leaves the weights alone."""
    metrics: dict[str, float] = {"loss": 0.0, "grad_norm": 0.0}
    if not any(processes.gather(bool(batch.micro_batches))):
        return metrics
    for group in optimizer.param_groups:
        group["lr"] = rate
    policy.model.train()
    micro_batches, failures = batch.micro_batches, 0  # of memory
    for number in range(objective.updates_per_batch):
        # After the first of several the weights are no longer those of a finished step.
        with stopping.released() if number == 0 else nullcontext():
            micro_batches, metrics = accumulate(policy, objective, accelerator, micro_batches)
            weights.take_gradients()
            add_gradients(weights.held.values())
            metrics = processes.add_up(metrics)
        failures += int(metrics.pop("out_of_memory", 0))
        norm = float(whole(accelerator.clip_grad_norm_(weights.held.values(), plan.optimizer.max_grad_norm)))
        metrics["grad_norm"] = norm
        if not (math.isfinite(metrics["loss"]) and math.isfinite(norm)):
            optimizer.zero_grad(set_to_none=True)
            raise TrainingError(
                f"step {step}: loss {metrics['loss']}, gradient norm {norm}; stopped before the optimizer's step, "
                "the last checkpoint is clean. --resume would meet the same again: begin a new run (--output) with a "
                "lower optimizer.lr or model.dtype float32"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        weights.give_back()
    policy.model.eval()
    if failures:
        metrics |= {"out_of_memory": failures, "micro_batch_tokens": objective.tokens.agree()}
    return metrics


def _state(
    objective: Objective, plan: Plan, progress: Progress, records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """All that going on needs besides the weights and the optimizer, as it is now. ``records`` are those of steps
    since the last save point, whose rollout file is not written."""
    return {
        "progress": asdict(progress),
        "objective": deepcopy(objective.state_dict()),
        "gate": deepcopy(plan.gate.state_dict()) if plan.gate is not None else None,
        "start_sha256": plan.start_sha256,
        **({"records": list(records)} if records else {}),
    }


def _is_due(progress: Progress, plan: Plan) -> bool:
    """Whether the weights are to be scored and saved as they are."""
    return progress.ended_by is not None or progress.step % plan.checkpoint.every == 0


def _save_point(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    progress: Progress,
    parameters: Mapping[str, torch.nn.Parameter],
    state: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Write the rollouts, score the weights on the validation split, remember the best, save."""
    if plan.save_records is not None and records:
        rollouts = plan.folder / ROLLOUTS / f"until-{progress.step:06d}.parquet"
        progress.rollouts[rollouts.name] = processes.on_main(partial(plan.save_records, rollouts, records))
    with stopping.released():
        validation = plan.validate(policy)
    progress.validations.append({"step": progress.step, **asdict(validation)})
    progress.best_step = _best(progress.validations, plan.checkpoint.hand_on)
    plan.journal.log({"kind": "validation", "step": progress.step, **asdict(validation)})
    _save(optimizer, plan, progress, parameters, state(()))


def _save(
    optimizer: torch.optim.Optimizer,
    plan: Plan,
    progress: Progress,
    parameters: Mapping[str, torch.nn.Parameter],
    state: Mapping[str, Any],
) -> None:
    """A checkpoint of the weights as they are; removes those that are no longer needed."""
    tensors = {"model": parameters, "optimizer": optimizer_tensors(optimizer, parameters.items())}
    tensors = {kind: _whole_on_main(group) for kind, group in tensors.items()}
    folder = plan.folder / "checkpoints"
    plan.journal.sync()

    def save() -> None:
        checkpoints.save_checkpoint(folder, progress.step, {k: v for k, v in tensors.items() if v}, state)
        # One that an earlier stop left between two save points has had its use, and takes no other's place.
        points = {entry["step"] for entry in progress.validations}
        kept = sorted(points.intersection(checkpoints.steps(folder)))[-plan.checkpoint.keep_last :]
        # The best as of each kept checkpoint stays too: a run that has to fall back to one still finds it.
        bests = [
            _best([entry for entry in progress.validations if entry["step"] <= step], plan.checkpoint.hand_on)
            for step in kept
        ]
        checkpoints.prune(folder, 1, [*kept, *bests])

    processes.on_main(save)


def _whole_on_main(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint; shards are put together one by one, and kept by the process that saves."""
    if not any(is_shard(tensor) for tensor in tensors.values()):
        return dict(tensors)
    kept = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if processes.is_main():
            kept[name] = full.cpu()
    return kept


def _best(validations: Sequence[Mapping[str, Any]], hand_on: HandOn) -> int:
    """The step that is handed on: of the best validation by accuracy, then score, then the earlier one; or the last."""
    if hand_on == "last":
        return int(validations[-1]["step"])
    best = max(validations, key=lambda entry: (entry["accuracy"], entry["score"], -entry["step"]))
    return int(best["step"])


def _remember(progress: Progress, batch: StepBatch) -> None:
    """Keep the means of the first and of the last updates."""
    known = {name: batch.metrics.get(name) for name in ("reward", "accuracy")}
    if any(value is None for value in known.values()):
        return
    progress.window = [*progress.window, known][-WINDOW:]
    means = {name: sum(entry[name] for entry in progress.window) / len(progress.window) for name in known}
    progress.last = means
    if progress.step <= WINDOW:
        progress.first = means
