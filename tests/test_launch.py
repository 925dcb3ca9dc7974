"""Two processes end where one does: the same rollouts, decisions and files, and weights that differ by rounding."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import many
import pytest
import tiny_run
import torch
from safetensors.torch import load_file

from curr_reft import processes
from curr_reft.parquet import read_rows

LORA = ("--model.lora", "{rank: 4}", "--rl.objective.beta", "0.04")
CONFIGS = sorted((Path(__file__).parents[1] / "recipes" / "accelerate").glob("*.yaml"))


def run_one(folder: Path, *flags: str) -> Path:
    assert tiny_run.run("--output", folder, *many.SHORT, *flags, log=folder.with_suffix(".log")) == 0
    return folder


def run_two(folder: Path, *flags: str, launcher: list[str] | None = None, **environment: str) -> str:
    """What the two said."""
    log = folder.with_suffix(".log")
    words = ("run", tiny_run.RECIPE, "--output", folder, *many.SHORT, *flags)
    assert many.wait(many.start(*words, log=log, launcher=launcher, **environment)) == 0, log.read_text()
    return log.read_text()


def assert_close(two: Path, one: Path, tolerance: float = 1e-5) -> None:
    """The same files, rollouts and decisions; weights within ``tolerance``, and some of them moved by more."""
    ours, theirs = tiny_run.files(two), tiny_run.files(one)
    assert set(ours) == set(theirs)
    distances = [
        (load_file(ours[name])[key].float() - tensor.float()).abs().max()
        for name in ours
        if name.endswith("model.safetensors")
        for key, tensor in load_file(theirs[name]).items()
    ]
    assert max(distances) <= tolerance
    saved = sorted(name for name in ours if name.endswith("model.safetensors") and "/step-" in name)
    first, last = (load_file(ours[name]) for name in (saved[0], saved[-1]))
    assert max((first[key] - last[key]).abs().max() for key in first) > 1e-5  # else the tolerance would say nothing
    for name in ours:
        if name.endswith(".parquet"):
            rolled, expected = (
                [tuple(map(row.get, ("step", "id", "prompt", "completion", "reward"))) for row in read_rows(each[name])]
                for each in (ours, theirs)
            )
            assert rolled == expected
    decisions = [
        [(row["kind"], row["step"], row.get("statuses"), row.get("accuracy"), row.get("by_task")) for row in rows]
        for rows in (tiny_run.untimed_rows(two), tiny_run.untimed_rows(one))
    ]
    assert decisions[0] == decisions[1]


def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    """Three prompts for two processes, micro-batches of one group: one has twice the other's."""
    flags = ("--curriculum.total_steps", "3", "--rl.micro_batch_tokens", "128")
    one = run_one(tmp_path / "one", *flags)
    said = run_two(tmp_path / "two", *flags)
    assert_close(tmp_path / "two", one)
    assert said.count("report: ") == said.count("step 1/3") == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    "flags",
    [
        ("--rl.micro_batch_tokens", "128"),
        ("--rl.objective.loss", "gspo", "--rl.objective.updates_per_batch", "2"),
        ("--rl.prompts_per_step", "1"),  # one process has no group at all
        ("--rl.resample.rounds", "2", "--model.freeze", "[vision]"),
        ("--model.gradient_checkpointing", "true"),
        ("--rl.one_prompt_pass", "true"),  # of the groups that each process sampled
    ],
    ids=" ".join,
)
def test_in_every_way_to_train(tmp_path: Path, kind: str, sharded: bool, flags: tuple[str, ...]) -> None:
    flags = (*flags, *(LORA if kind == "lora" else ()), "--curriculum.total_steps", "4")
    one = run_one(tmp_path / "one", *flags)
    run_two(tmp_path / "two", *flags, **(many.FSDP2 if sharded else {}))
    assert_close(tmp_path / "two", one)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sharded", [False, True])
def test_the_whole_method(tmp_path: Path, sharded: bool) -> None:
    """Difficulty, baselines, self-improvement with queries without images, all evaluations."""
    flags = ("--rl.optimizer.lr", "1e-5", "--sft.optimizer.lr", "1e-5", "--self_improvement.sft.optimizer.lr", "1e-5")
    flags = (*flags, "--sampling.max_new_tokens", "16", "--difficulty.samples", "8")
    log = tmp_path / "log"
    assert tiny_run.run("--output", tmp_path / "one", *flags, log=log) == 0, log.read_text()
    environment = many.FSDP2 if sharded else {}
    process = many.start("run", tiny_run.RECIPE, "--output", tmp_path / "two", *flags, log=log, **environment)
    assert many.wait(process) == 0, log.read_text()
    assert_close(tmp_path / "two", tmp_path / "one")
    summaries = [tiny_run.untimed_summary(tmp_path / name) for name in ("two", "one")]
    assert summaries[0]["self_improvement"] == summaries[1]["self_improvement"]
    assert summaries[0]["evaluation"] == summaries[1]["evaluation"]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_configurations_launch(tmp_path: Path, config: Path) -> None:
    accelerate = shutil.which("accelerate", path=str(tiny_run.PROGRAM.parent))
    assert accelerate is not None
    launcher = [accelerate, "launch", "--config_file", str(config), "--num_processes", "2"]
    port = many.torchrun()[-1]
    said = run_two(tmp_path / "two", "--curriculum.total_steps", "2", launcher=[*launcher, "--main_process_port", port])
    assert said.count("report: ") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("sharded", [False, True])
def test_resumed_it_ends_with_the_same_bits_and_with_another_number_too(tmp_path: Path, sharded: bool) -> None:
    flags = (*many.SHORT, "--curriculum.total_steps", "30")
    environment = many.FSDP2 if sharded else {}
    run_two(tmp_path / "whole", *flags, **environment)
    for again in (2, 1):
        run, log = tmp_path / f"then-{again}", tmp_path / f"{again}.log"
        words = ("run", tiny_run.RECIPE, "--output", run, "--resume", *flags)
        process = many.start(*words, log=log, **environment)
        many.until(process, lambda run=run: (run / "stages/01-mixed/checkpoints/step-000004").exists(), log)  # type: ignore[misc]
        for each in many.ranks(process).values():  # the launcher ends with them, not they with it
            os.kill(each, signal.SIGKILL)
        assert many.wait(process) != 0
        assert "report: " not in log.read_text()  # it was in the middle
        if again == 2:
            assert many.wait(many.start(*words, log=log, **environment)) == 0, log.read_text()
            tiny_run.assert_same(run, tmp_path / "whole")
        else:
            assert tiny_run.run("--output", run, "--resume", *flags, log=log) == 0, log.read_text()
            assert "resuming with another number of processes (2 -> 1)" in log.read_text()
            assert_close(run, tmp_path / "whole")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "fsdp2-zero3.yaml"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "fsdp_version is 1, and must be 2"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "model.dtype"),
        ({**many.FSDP2, "FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params must be false"),
        ({**many.FSDP2, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "model.gradient_checkpointing"),
    ],
)
def test_what_a_launcher_asks_for_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    from curr_reft.errors import UsageError
    from curr_reft.launch import refuse_unknown_launch

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        refuse_unknown_launch()


def test_more_processes_than_gpus_are_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from curr_reft.errors import ElsewhereError, UsageError
    from curr_reft.launch import joined

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    launched = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "0", "RANK": "0"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="starts 4 processes on this machine, and 2 of its GPUs can be seen"), joined():
        pass
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ElsewhereError) as silent, joined():
        pass
    assert silent.value.exit_code == UsageError.exit_code
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "set_device", lambda own: chosen.append(own))
    monkeypatch.delattr(torch.distributed, "rendezvous")  # nobody to meet
    monkeypatch.setenv("LOCAL_RANK", "1")
    chosen: list[int] = []
    with pytest.raises(AttributeError, match="rendezvous"), joined():
        pass
    assert chosen == [1]


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """``team(rank, count)``: this process as one of several, as far as dealing is concerned."""

    def be(rank: int, count: int) -> None:
        monkeypatch.setattr(processes, "_team", processes.Team(rank=rank, count=count, group=None))

    return be


def test_work_is_dealt_about_evenly_and_everywhere_the_same(team: Callable[[int, int], None]) -> None:
    costs = [float(cost) for cost in torch.randint(100, 1000, (61,), generator=torch.Generator().manual_seed(0))]
    team(0, 4)
    hands = processes.deal(costs)
    team(3, 4)
    assert processes.deal(costs) == hands
    assert sorted(place for hand in hands for place in hand) == list(range(61))
    loads = [sum(costs[place] for place in hand) for hand in hands]
    assert max(loads) / min(loads) < 1.05
    assert processes.in_order(hands, [[costs[place] for place in hand] for hand in hands]) == costs
    team(0, 3)
    assert processes.deal([5.0, 5.0]) == [[0], [1], []]


def test_alone_nothing_is_dealt_or_sent() -> None:
    given: dict[str, Any] = {"loss": -0.0}
    assert processes.deal([1.0, 2.0]) == [[0, 1]]
    assert processes.gather(given) == [given]
    assert json.dumps(processes.add_up(given)) == '{"loss": -0.0}'
    assert processes.on_main(lambda: 3) == 3
