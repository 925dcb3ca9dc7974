"""The loop: going on from any moment gives the same weights, guards stop before the optimizer's step."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from curr_reft.curriculum.config import GateConfig
from curr_reft.curriculum.gate import AccuracyGate
from curr_reft.curriculum.stage import Start, Training, run_training
from curr_reft.errors import CheckpointError, TrainingError, UsageError
from curr_reft.integrity import Entry, file_entry
from curr_reft.parquet import read_rows, write_rows
from curr_reft.policy.config import LoraConfig, ModelConfig
from curr_reft.policy.load import Policy, load_policy
from curr_reft.prepare import Prepared
from curr_reft.rewards.grade import Grade, Status
from curr_reft.train import checkpoint as checkpoints
from curr_reft.train.config import CheckpointConfig, OptimizerConfig, SftConfig
from curr_reft.train.grpo import GrpoObjective
from curr_reft.train.loop import Journal, Plan, Progress, Validation, train_loop
from curr_reft.train.objective import MicroBatch, StepBatch
from curr_reft.train.publish import weights_hash
from curr_reft.train.sft import SftExample, SftObjective

Fresh = Callable[..., Policy]
Grpo = Callable[..., GrpoObjective]
Row = dict[str, Any]


class KilledError(Exception):
    """Stands for a kill: nothing of the loop runs after it."""


class Record:
    """A run directory as a loop sees it, on paper. It ends the loop at its ``stop``-th event."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.events = 0
        self.stop: int | None = None

    def event(self) -> None:
        self.events += 1
        if self.events == self.stop:
            raise KilledError

    def log(self, row: Mapping[str, Any]) -> None:
        self.rows.append({k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")})
        self.event()

    def rewind(self, step: int, validated: bool) -> None:
        again = [] if validated else [row for row in self.rows if (row["step"], row["kind"]) == (step, "validation")]
        self.rows = [row for row in self.rows if row["step"] <= step and row not in again]
        self.event()

    def validate(self, policy: Policy) -> Validation:
        """A number of the weights, so that an equal series means equal weights."""
        self.event()
        value = float(sum(parameter.detach().double().sum() for parameter in policy.training_parameters())) % 1
        return Validation(accuracy=value, score=value)

    def save(self, path: Path, rows: Iterable[Mapping[str, Any]]) -> Entry:
        write_rows(path, rows)
        self.event()
        return file_entry(path)


def plan(folder: Path, record: Record, **changes: Any) -> Plan:
    whole = Plan(
        folder=folder,
        budget=4,
        optimizer=OptimizerConfig(lr=1e-3, schedule="linear", weight_decay=0.01),
        checkpoint=CheckpointConfig(every=2, keep_last=1),
        seed=7,
        validate=record.validate,
        journal=Journal(log=record.log, rewind=record.rewind, sync=record.event),
        save_records=record.save,
    )
    return replace(whole, **changes)


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.model.named_parameters() if p.requires_grad}


def assert_equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert set(one) == set(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def saved(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sft(policy: Policy, prepared: Prepared) -> SftObjective:
    asked = prepared.of("train")[:5] + prepared.of("train", "binary")[:5]
    examples = [SftExample(question=question, completion="<answer> no </answer>") for question in asked]
    return SftObjective(policy, examples, SftConfig(steps=4, batch_size=4), seed=3)


# Every n-th event of a loop. Strides that differ meet every sort of event in one kind of loop or another.
STRIDES = {"grpo": 3, "lora": 5, "two updates, kl, gate": 4, "sft": 4, "sft, bfloat16": 5, "one prompt pass": 11}


@pytest.mark.parametrize(
    ("kind", "stride"),
    [*STRIDES.items(), *(pytest.param(kind, 1, marks=pytest.mark.slow, id=f"{kind}, every event") for kind in STRIDES)],
)
def test_resumed_from_any_event_it_ends_with_the_same_bits(
    grpo: Grpo, fresh: Fresh, prepared: Prepared, random_model: Path, tmp_path: Path, kind: str, stride: int
) -> None:
    """Killed at every n-th log, validation, save of rollouts and sync, and each time gone on with by a new process."""
    anchor = load_policy(random_model)
    options: dict[str, Any] = {"lora": LoraConfig(rank=4)} if kind == "lora" else {}
    if kind.endswith("bfloat16"):
        options = {"dtype": "bfloat16"}

    def train(folder: Path, record: Record) -> tuple[dict[str, torch.Tensor], Progress]:
        policy = fresh(**options)
        changes: dict[str, Any] = {}
        objective: Any
        if kind.startswith("sft"):
            objective = sft(policy, prepared)
        elif kind.startswith("two"):
            objective = grpo(policy, reference=lambda: nullcontext(anchor), updates_per_batch=2)
            changes["gate"] = AccuracyGate(GateConfig(accuracy=0.01, window=2, min_steps=3), ["open"])
        else:
            objective = grpo(policy, one_prompt_pass=kind == "one prompt pass")
        progress = train_loop(policy, objective, plan(folder, record, **changes))
        return weights(policy), progress

    whole = Record()
    expected, progress = train(tmp_path / "whole", whole)
    assert progress.ended_by == ("gate" if kind.startswith("two") else "budget")
    start = weights(fresh(**options))
    last = checkpoints.load(checkpoints.at_step(tmp_path / "whole" / "checkpoints", progress.step)).tensors["model"]
    assert any(not torch.equal(start[name].float(), last[name]) for name in start)  # else equality would say nothing
    for stop in range(1, whole.events + 1, stride):
        record, folder = Record(), tmp_path / f"stopped-{stop}"
        record.stop = stop
        with pytest.raises(KilledError):
            train(folder, record)
        record.stop = None
        found, again = train(folder, record)
        assert_equal(found, expected)
        assert again == progress
        assert record.rows == whole.rows, f"stopped at event {stop}"
        assert saved(folder) == saved(tmp_path / "whole")
    # And a loop that is through is not repeated.
    events = record.events
    assert_equal(train(folder, record)[0], expected)
    assert record.events == events + 1  # the rewind
    if not kind.startswith("sft"):
        rolled = [row for path in sorted((folder / "rollouts").iterdir()) for row in read_rows(path)]
        assert [row["step"] for row in rolled] == [step for step in range(1, progress.step + 1) for _ in range(3 * 4)]


def test_an_adapter_does_not_hang_on_what_the_process_did_before(
    grpo: Grpo, random_model: Path, tmp_path: Path
) -> None:
    """A run killed between two stages begins the second in a process that has not gone through the first."""
    found = []
    for used in (1, 2):
        torch.manual_seed(used)
        record = Record()

        def validate(_: Policy, record: Record = record) -> Validation:
            trained = sum(row["kind"] == "train" for row in record.rows)
            return Validation(accuracy=float(trained), score=0.0)

        published = run_training(
            Training(
                folder=tmp_path / str(used),
                model=ModelConfig(lora=LoraConfig(rank=4)),
                start=Start(path=str(random_model), sha256=weights_hash(random_model)),
                objective=grpo,
                budget=1,
                optimizer=OptimizerConfig(lr=1e-2),
                checkpoint=CheckpointConfig(),
                seed=5,
                validate=validate,
                journal=Journal(log=record.log, rewind=record.rewind, sync=record.event),
            )
        )
        assert published.record["chosen_step"] == 1
        found.append(published.weights_sha256)
    assert found[0] == found[1] != weights_hash(random_model)


def test_the_best_checkpoint_is_what_comes_back(grpo: Grpo, fresh: Fresh, tmp_path: Path) -> None:
    """By accuracy, then score, then the earlier one; it stays though newer ones push."""
    policy, record = fresh(), Record()
    given: Iterator[tuple[float, float]] = iter([(0.1, 0.9), (0.5, 0.2), (0.5, 0.3), (0.5, 0.3), (0.4, 0.9)])
    seen: list[dict[str, torch.Tensor]] = []

    def validate(policy: Policy) -> Validation:
        seen.append(weights(policy))
        accuracy, score = next(given)
        return Validation(accuracy=accuracy, score=score)

    checkpoint = CheckpointConfig(every=1, keep_last=1)
    progress = train_loop(policy, grpo(policy), plan(tmp_path, record, validate=validate, checkpoint=checkpoint))
    assert progress.best_step == 2
    assert_equal(weights(policy), seen[2])
    assert sorted(checkpoints.steps(tmp_path / "checkpoints")) == [2, 4]


def test_the_last_checkpoint_is_handed_on_where_the_recipe_says_so(grpo: Grpo, fresh: Fresh, tmp_path: Path) -> None:
    """Whatever became of validation; no older one is kept for being better."""
    policy, record = fresh(), Record()
    falling = iter([0.9, 0.8, 0.7, 0.6, 0.5])
    seen: list[dict[str, torch.Tensor]] = []

    def validate(policy: Policy) -> Validation:
        seen.append(weights(policy))
        return Validation(accuracy=next(falling), score=0.0)

    checkpoint = CheckpointConfig(every=1, keep_last=1, hand_on="last")
    progress = train_loop(policy, grpo(policy), plan(tmp_path, record, validate=validate, checkpoint=checkpoint))
    assert progress.best_step == progress.step == 4
    assert_equal(weights(policy), seen[4])
    assert sorted(checkpoints.steps(tmp_path / "checkpoints")) == [4]


class Poisoned:
    """An objective whose loss, or gradient, is not a number in one step."""

    def __init__(self, objective: GrpoObjective, at: int, how: str) -> None:
        self.objective, self.at, self.how, self.step = objective, at, how, 0
        self.updates_per_batch = 1

    def prepare(self, step: int) -> StepBatch:
        self.step = step
        return self.objective.prepare(step)

    def loss(self, batch: MicroBatch) -> tuple[torch.Tensor, dict[str, float]]:
        loss, parts = self.objective.loss(batch)
        if self.step == self.at:
            # The derivative of a root at 0 is infinite, and infinity times 0 is not a number: the loss is fine.
            loss = loss * float(self.how) if self.how != "gradient" else loss + (loss - loss.detach()).abs().sqrt()
        return loss, parts

    def state_dict(self) -> dict[str, Any]:
        return self.objective.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.objective.load_state_dict(state)


@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
def test_what_is_not_finite_stops_before_the_optimizers_step(
    grpo: Grpo, fresh: Fresh, tmp_path: Path, how: str
) -> None:
    policy, record = fresh(), Record()
    poisoned = plan(tmp_path / "run", record, checkpoint=CheckpointConfig(every=1))
    with pytest.raises(TrainingError, match=r"step 3: loss .* gradient norm .*before the optimizer's step"):
        train_loop(policy, Poisoned(grpo(policy), 3, how), poisoned)
    last = checkpoints.last_complete(tmp_path / "run" / "checkpoints")
    assert last is not None
    assert last.step == 2
    kept = checkpoints.load(last).tensors["model"]
    assert_equal(weights(policy), kept)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.values())
    assert max(row["step"] for row in record.rows) == 2
    assert all(parameter.grad is None for parameter in policy.training_parameters())


def test_a_stage_in_which_nothing_can_be_learned_ends_with_its_start(
    grpo: Grpo, fresh: Fresh, babble: Callable[..., None], tmp_path: Path
) -> None:
    babble(lambda rows, *_: [Grade(status=Status.OK, format=1.0, accuracy=1.0, correct=True) for _ in rows])
    policy, record = fresh(), Record()
    start = weights(policy)
    progress = train_loop(policy, grpo(policy), plan(tmp_path, record))
    assert (progress.step, progress.ended_by, progress.best_step) == (4, "budget", 0)
    assert_equal(weights(policy), start)
    trained = [row for row in record.rows if row["kind"] == "train"]
    assert [(row["loss"], row["grad_norm"], row["zero_variance"]) for row in trained] == [(0.0, 0.0, 1.0)] * 4
    assert progress.last == {"reward": 2.0, "accuracy": 1.0}
    # Without any optimizer state the last checkpoint is one to go on from all the same.
    assert train_loop(fresh(), grpo(fresh()), plan(tmp_path, record)) == progress


def test_a_stage_without_any_score_has_no_first_and_last(
    grpo: Grpo, fresh: Fresh, babble: Callable[..., None], tmp_path: Path
) -> None:
    babble(lambda rows, *_: [Grade(status=Status.GRADER_FAILED, format=0.0, accuracy=None) for _ in rows])
    policy, record = fresh(), Record()
    gate = AccuracyGate(GateConfig(accuracy=0.1, window=1, min_steps=1), ["open"])
    progress = train_loop(policy, grpo(policy), plan(tmp_path, record, gate=gate, budget=2))
    assert (progress.first, progress.last, progress.ended_by) == ({}, {}, "budget")


def test_several_updates_on_one_batch_are_that_many_steps_of_the_optimizer(
    grpo: Grpo, fresh: Fresh, tmp_path: Path
) -> None:
    found = {}
    for updates in (1, 2):
        policy, record = fresh(), Record()
        train_loop(policy, grpo(policy, updates_per_batch=updates), plan(tmp_path / str(updates), record, budget=1))
        loaded = checkpoints.load(checkpoints.at_step(tmp_path / str(updates) / "checkpoints", 1))
        counts = {int(tensor) for name, tensor in loaded.tensors["optimizer"].items() if name.endswith(".step")}
        assert counts == {updates}
        found[updates] = loaded.tensors["model"]
    assert any(not torch.equal(found[1][name], found[2][name]) for name in found[1])


def test_what_was_retired_is_handed_on_again_and_never_gone_on_with(grpo: Grpo, fresh: Fresh, tmp_path: Path) -> None:
    """Somebody removed what a stage published, and its checkpoints have no optimizer any more."""
    changes: dict[str, Any] = {"budget": 2, "checkpoint": CheckpointConfig(every=1, keep_last=2)}
    progress = train_loop(policy := fresh(), grpo(policy), plan(tmp_path, Record(), **changes))
    folder = tmp_path / "checkpoints"
    checkpoints.retire(folder, 2, progress.best_step)
    again = train_loop(resumed := fresh(), grpo(resumed), plan(tmp_path, Record(), **changes))
    assert again == progress
    assert_equal(weights(resumed), weights(policy))
    (checkpoints.step_folder(folder, 2) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no optimizer any more"):
        train_loop(policy := fresh(), grpo(policy), plan(tmp_path, Record(), **changes))


def test_a_checkpoint_from_another_start_is_refused(grpo: Grpo, fresh: Fresh, tmp_path: Path) -> None:
    record = Record()
    record.stop = 9
    with pytest.raises(KilledError):
        train_loop(policy := fresh(), grpo(policy), plan(tmp_path, record, start_sha256="a"))
    with pytest.raises(CheckpointError, match="was trained from weights a, but its start now has b"):
        train_loop(policy := fresh(), grpo(policy), plan(tmp_path, record, start_sha256="b"))


def test_a_model_that_is_frozen_altogether_is_refused(grpo: Grpo, fresh: Fresh, tmp_path: Path) -> None:
    policy = fresh()
    policy.core.requires_grad_(False)  # the recipe refuses it too; here by whoever calls the loop
    with pytest.raises(UsageError, match=r"model\.freeze"):
        train_loop(policy, grpo(policy), plan(tmp_path, Record()))
