"""``curr-reft status``: what it tells of runs that work, were killed, are finished, and of folders that are no runs."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from resealing import reseal_run

from curr_reft.cli import main
from curr_reft.planned import StepAlone, planned_phases
from curr_reft.recipe import load_recipe
from curr_reft.run_dir import RunDir
from curr_reft.run_history import Faults
from curr_reft.run_lock import began_ticks
from curr_reft.run_plan import plan
from curr_reft.run_record import LAST_PHASE
from curr_reft.status import owner_of, read_status


def trained(run: Path, step: int) -> bool:
    return any(row["kind"] == "train" and row["step"] == step for row in tiny_run.rows(run))


def frozen(run: Path) -> dict[str, tuple[bytes, int]]:
    return {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in tiny_run.files(run).items()}


@pytest.fixture
def copy(finished: Any, tmp_path: Path) -> Path:
    """A finished run of the test's own."""
    return Path(shutil.copytree(finished.path, tmp_path / "copy"))


def test_a_run_that_works_is_looked_at_and_one_that_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    process = tiny_run.start("--output", run, log=log)
    assert process.pid is not None
    seen = []

    def stage_has_begun() -> bool:
        if (run / "run.json").is_file():
            seen.append(read_status(run))  # at every moment of the start, and while metrics are appended
        return trained(run, 1)

    while not stage_has_begun():
        assert process.is_alive(), log.read_text()
    os.kill(process.pid, signal.SIGSTOP)
    try:
        before = frozen(run)
        status = read_status(run)
        assert frozen(run) == before  # nothing was written, the lock file's name included
        assert (status.state, status.owner) == ("running", "alive")
        assert status.owner_name == f"process {process.pid} on {socket.gethostname()}"
        assert status.phase == "curr_rl/01-binary"
        now = status.trainings[0]
        assert (now.state, now.budget) == ("now", 2)
        assert now.step in (1, 2)
        assert now.seconds_per_step is not None
        assert now.seconds_per_step > 0
        assert now.seconds_left == pytest.approx((2 - now.step) * now.seconds_per_step)
        assert [each.state for each in status.trainings[1:]] == ["waiting"] * (len(status.trainings) - 1)
        assert status.trainings[2].budget == 3  # the rest of 8
        assert status.seconds_left is None  # no step of SFT yet, so its speed is not known
        assert status.last_save is not None
        assert status.last_save.stage == "stages/01-binary"
        assert status.last_save.step in (0, 2)
    finally:
        process.kill()
        tiny_run.wait(process)
    assert seen[0].owner in ("alive", "none")  # the lock comes before its name
    assert {each.phase for each in seen} <= {"eval/base", "curr_rl/01-binary"}

    killed = read_status(run)
    assert (killed.state, killed.owner) == ("running", "dead")
    capsys.readouterr()
    assert main(["status", str(run)]) == 0
    assert re.search(r"state      cut off \(process \d+ on \S+ is dead; go on with --resume\)", capsys.readouterr().out)
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b'{"run": "curr_rl", "stage": "01-bi')  # a kill in the middle of a line
    torn = read_status(run)
    assert torn.trainings == killed.trainings
    assert torn.faults == killed.faults


def test_it_tells_a_person_and_a_program_the_same(finished: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(finished.path)]) == 0
    text = capsys.readouterr().out
    assert "done (held by no process)" in text
    assert "nothing, the run is finished" in text
    assert "training   curr_rl 03-open                  done     step 3 of 3" in text
    assert main(["status", str(finished.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {each["state"] for each in told["trainings"]} == {"done"}
    assert [each["step"] for each in told["trainings"]] == [2, 3, 3, 8, 3, 3]
    assert told["seconds_left"] == 0
    assert told["faults"] == {
        "failed_gradings": 0,
        "timed_out_gradings": 0,
        "failed_rewards": 0,
        "out_of_memory": 0,
        "non_finite": 0,
        "bad_rows_skipped": 0,
    }


def test_faults_are_counted(copy: Path) -> None:
    row = next(row for row in tiny_run.rows(copy) if row["kind"] == "train")
    card = copy / "data" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"skipped_rows": 7}))
    hurt = [
        {"statuses": {"ok": 3, "grader_failed": 2, "timed_out": 1}, "parts": {"mine": {"failed": 4}}},
        {"statuses": {"timed_out": 9}, "resample": {"statuses": {"timed_out": 10}}, "out_of_memory": 2},
        {"loss": None, "grad_norm": None},
    ]
    with (copy / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row | {"parts": {}} | each) + "\n" for each in hurt)
    assert read_status(copy).faults == Faults(
        failed_gradings=2,
        timed_out_gradings=11,
        failed_rewards=4,
        out_of_memory=2,
        non_finite=1,
        bad_rows_skipped=7,
    )


def test_a_stage_that_is_left_out_gives_its_steps_to_the_last(copy: Path) -> None:
    planned = planned_phases(load_recipe(copy / "recipe.yaml"))
    done: dict[str, Any] = {"eval/base": {}, "curr_rl/01-binary": {}}
    phase, trainings = plan(planned, done, {("curr_rl", "01-binary"): 1}, LAST_PHASE)
    assert phase == "curr_rl/02-choice"
    assert [(each.state, each.budget) for each in trainings[:3]] == [("done", 1), ("now", 3), ("waiting", 4)]
    phase, trainings = plan(planned, {"eval/base": {}}, {("curr_rl", "03-open"): 2}, LAST_PHASE)
    assert phase == "curr_rl/03-open"
    assert [(each.state, each.budget) for each in trainings[:3]] == [("left out", 0), ("left out", 0), ("now", 8)]


def test_a_dead_owner_is_told_from_one_that_lives(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    assert owner_of(lock) == ("none", None)

    def held_by(process: int, host: str = socket.gethostname()) -> str:
        lock.write_text(json.dumps({"host": host, "process": process}))
        return owner_of(lock)[0]

    assert held_by(os.getpid()) == "alive"
    assert held_by(os.getpid(), "another") == "elsewhere"
    assert held_by(os.getppid()) == "alive"
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert held_by(ended.pid) == "dead"  # ended, and not collected: the number is still taken
    ended.wait()
    assert held_by(ended.pid) == "dead"
    for began, owner in ((began_ticks(os.getpid()), "alive"), (1, "dead")):  # 1: the number was given out again
        lock.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "began": began}))
        for hours in (-1, 0, 1, 24 * 365):  # by which a clock was set since the name was written
            os.utime(lock, (time.time() + 3600 * hours,) * 2)
            assert owner_of(lock)[0] == owner
    folder = tmp_path.stat().st_ino
    for number, owner in ((folder, "alive"), (folder + 1, "none")):  # of another folder: this one is a copy of it
        lock.write_text(json.dumps({"host": socket.gethostname(), "process": os.getpid(), "folder": number}))
        assert owner_of(lock)[0] == owner
    lock.write_text("")
    assert owner_of(lock) == ("none", None)


def test_a_run_is_given_back_by_one_that_ends_by_itself(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(tmp_path / "run")])
    with RunDir.open(recipe.output, recipe):
        status = read_status(recipe.output)
        assert (status.owner, status.phase, status.last_save) == ("alive", "eval/base", None)
        assert status.faults.bad_rows_skipped is None
    assert read_status(recipe.output).owner == "none"


def test_a_step_by_itself_is_told_and_not_the_whole_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The directory of curr-reft sft, before its first step, in it, and after it."""
    run = tmp_path / "run"
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(run)])
    alone = StepAlone(command="sft", trainings={"sft/sft": 30})
    row = {
        "kind": "train",
        "run": "sft",
        "stage": "sft",
        "loss": 1.0,
        "seconds": {"train": 2.0},
        "tokens_per_second": 9,
    }
    with RunDir.open(run, recipe, alone=alone) as directory:
        status = read_status(run)
        assert (status.alone, status.phase) == ("sft", "sft/sft")
        assert [(each.run, each.state, each.step, each.budget) for each in status.trainings] == [("sft", "now", 0, 30)]
        directory.append_metrics([row | {"step": step} for step in (1, 2, 3)])
        assert read_status(run).trainings[0].step == 3
        assert read_status(run).seconds_left == 54
    with RunDir.open(run, recipe, resume=True, alone=alone) as directory:
        directory.append_metrics([row | {"step": step} for step in range(4, 31)])
        directory.mark_done("sft/sft", {})
        directory.set_state("done")
    assert main(["status", str(run)]) == 0
    told = capsys.readouterr().out
    assert f"run        tiny in {run}, curr-reft sft alone" in told
    assert "phase      nothing, the run is finished" in told
    assert [line for line in told.splitlines() if line.startswith("training")] == [
        "training   sft                              done     step 30 of 30, 2.00 s a step, 9 tokens/s"
    ]
    assert main(["run", str(tiny_run.RECIPE), "--output", str(run), "--resume"]) == 2
    assert "is the directory of curr-reft sft" in capsys.readouterr().err


def test_budgets_that_grew_and_other_versions_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(run)])
    RunDir.open(run, recipe).close()
    record = json.loads((run / "run.json").read_text())
    record["versions"]["torch"] = "1.0"
    row = {"kind": "train", "run": "curr_rl", "stage": "01-binary", "loss": 1.0, "tokens_per_second": 9}
    (run / "metrics.jsonl").write_text(json.dumps(row | {"step": 1, "seconds": {"train": 2.0}}) + "\n")
    reseal_run(run, record)
    more = recipe.curriculum.model_copy(update={"total_steps": recipe.curriculum.total_steps + 4})
    for _ in range(2):  # noted once
        RunDir.open(run, recipe.model_copy(update={"curriculum": more}), resume=True).close()
    status = read_status(run)
    (extended,) = status.extended
    assert (extended.changes, extended.after) == (("curriculum.total_steps: 8 -> 12",), 1)
    (went_on,) = status.resumed_with
    assert went_on.changes[0].startswith("torch 1.0 -> 2.")
    assert main(["status", str(run)]) == 0
    told = capsys.readouterr().out
    assert f"extended   at {extended.at} after 1 updates: curriculum.total_steps: 8 -> 12" in told
    assert "went on    at " in told


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.touch(), "is a file"),
        (lambda path: path.mkdir(), "it holds no run.json"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("{")), "run.json is not readable"),
        (lambda path: (path.mkdir(), (path / "run.json").write_text("[]")), "run.json is not readable"),
        (
            lambda path: (
                path.mkdir(),
                (path / "run.json").write_text('{"name": "a", "state": "done", "phases": {}, "resumed": []}'),
                (path / "recipe.yaml").write_text("name: a\nof_another_version: 1\n"),
            ),
            "is not a recipe that this version can read",
        ),
    ],
)
def test_what_is_no_run_is_refused(made: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "run")
    assert main(["status", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err


def test_nothing_heavy_is_imported(finished: Any) -> None:
    code = (
        "import sys; from curr_reft.cli import main; main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'tokenizers', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, "status", str(finished.path)], check=True, capture_output=True)
