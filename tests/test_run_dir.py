"""The run directory: one holder, one recipe, metrics that count no step twice."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from curr_reft.console import Console
from curr_reft.errors import DataError, DiskFullError, LostLockError, TrainingError, UsageError
from curr_reft.files import read_json
from curr_reft.recipe import Recipe, load_recipe
from curr_reft.run_dir import RunDir
from curr_reft.run_lock import began_ticks

RECIPE = """\
name: tiny
curriculum: {total_steps: 20, stages: [{name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base, curr_rl]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return load_recipe(tmp_path / "recipe.yaml")


def refusal(path: Path, recipe: Recipe, resume: bool = False) -> str:
    with pytest.raises(UsageError) as refused:
        RunDir.open(path, recipe, resume)
    return str(refused.value)


def test_a_new_run_stores_what_made_it(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "a" / "run"
    with RunDir.open(path, recipe) as run:
        assert load_recipe(path / "recipe.yaml") == recipe
        run.mark_done("stages/01-open", {"chosen_step": 60})
        run.set_state("done")
    record = read_json(path / "run.json")
    assert record["state"] == "done"
    assert record["seed"] == 0
    assert record["versions"]["python"].startswith("3.")
    assert {"torch", "transformers", "curr_reft"} <= set(record["versions"])
    assert record["started"] <= record["finished"]


def test_resume_knows_the_finished_phases(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    run = RunDir.open(path, recipe)
    run.mark_done("stages/01-open", {"chosen_step": 60})
    with pytest.raises(RuntimeError), run:
        raise RuntimeError
    assert read_json(path / "run.json")["state"] == "failed"
    with RunDir.open(path, recipe, resume=True) as run:
        assert run.phase_done("stages/01-open")
        assert run.record("stages/01-open") == {"chosen_step": 60}
        assert not run.phase_done("evaluate")
        assert run.run["state"] == "running"
        assert len(run.run["resumed"]) == 1


def test_refused_input_leaves_the_directory_free(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    run = RunDir.open(path, recipe)
    with pytest.raises(DataError), run:
        raise DataError("rows.jsonl:1", "empty")
    with RunDir.open(path, recipe) as run:
        run.append_metrics([{"run": "a", "stage": "b", "step": 1}])
    with pytest.raises(DataError), RunDir.open(path, recipe, resume=True):
        raise DataError("rows.jsonl:1", "empty")
    assert "holds a run" in refusal(path, recipe)  # what was done is kept


def test_what_ended_a_run_is_noted_until_it_goes_on(tmp_path: Path, recipe: Recipe) -> None:
    """In our own words only: what another library says may quote anything."""
    path = tmp_path / "run"
    for error, said in (
        (TrainingError("the loss is not finite\n  at step 3"), "TrainingError: the loss is not finite"),
        (RuntimeError("answer of the server: key sk-secret"), "RuntimeError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ):
        run = RunDir.open(path, recipe, resume=True)
        assert "ended_by" not in run.run
        run.append_metrics([{"run": "a", "stage": "b", "step": 1}])
        with pytest.raises(type(error)), run:
            raise error
        assert read_json(path / "run.json")["ended_by"] == said
    with RunDir.open(path, recipe, resume=True) as run:
        run.set_state("done")
    assert "ended_by" not in read_json(path / "run.json")


def test_a_used_directory_is_refused_with_three_ways_out(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    RunDir.open(path, recipe).close()
    for way in ("--resume", "--output", f"rm -r {path}"):
        assert way in refusal(path, recipe)


def test_folders_that_are_not_ours_are_not_touched(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "thesis"
    path.mkdir()
    (path / "chapter.txt").touch()
    assert "chapter.txt" in refusal(path, recipe)
    assert "not the directory of a run" in refusal(path, recipe, resume=True)
    assert os.listdir(path) == ["chapter.txt"]
    assert "is a file" in refusal(path / "chapter.txt", recipe)


def test_resume_starts_what_never_began(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    with RunDir.open(path, recipe, resume=True) as run:
        assert run.run["phases"] == {}
    (path / "run.json").unlink()  # killed between the recipe and the state
    (path / ".run.json.99.tmp").write_text("{")
    with RunDir.open(path, recipe, resume=True):
        assert sorted(os.listdir(path)) == [".lock", "recipe.yaml", "run.json"]


def test_the_log_of_a_run_is_appended_to_and_ends_with_it(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    with pytest.raises(TrainingError), RunDir.open(path, recipe) as run:  # noqa: PT012
        Console().say("stage 1")
        run.mark_done("stage", {})
        raise TrainingError("the loss is NaN")
    with RunDir.open(path, recipe, resume=True):
        Console().say("stage 2")
        (path / ".lock").unlink()  # another process may write here now
        Console().say("lost")
    Console().say("after it")
    lines = [line.split(" ", 1)[1] for line in (path / "run.log").read_text().splitlines()]
    assert lines == ["stage 1", "ended by TrainingError: the loss is NaN", "stage 2"]


def test_the_log_quotes_no_error_of_others(tmp_path: Path, recipe: Recipe) -> None:
    """A message of another library may hold a key."""
    with pytest.raises(ValueError, match="sk-secret"), RunDir.open(tmp_path / "run", recipe) as run:  # noqa: PT012
        run.mark_done("stage", {})
        raise ValueError("no access with sk-secret")
    assert (tmp_path / "run" / "run.log").read_text().endswith(" ended by ValueError\n")


def test_a_run_that_was_refused_leaves_no_log(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    with pytest.raises(UsageError), RunDir.open(path, recipe):  # noqa: PT012
        Console().say("reading rows")
        raise UsageError("a wrong flag")
    assert os.listdir(path) == [".lock"]
    RunDir.open(path, recipe).close()


def test_another_recipe_is_refused_with_the_difference(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    RunDir.open(path, recipe).close()
    flags = ["--rl.optimizer.lr", "1e-4", "--sft.steps", "3"]
    text = refusal(path, load_recipe(tmp_path / "recipe.yaml", flags), resume=True)
    assert "rl.optimizer.lr: 1e-06 -> 0.0001" in text
    assert "sft.steps: (absent) -> 3" in text
    assert "seed" not in text
    RunDir.open(path, load_recipe(tmp_path / "recipe.yaml", ["--output", "elsewhere"]), resume=True).close()
    (path / "run.json").write_text("{")
    assert re.search(r"not readable .*put it back as it was, or choose another --output", refusal(path, recipe, True))


def test_where_nothing_can_be_written_is_refused_in_words(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written to (Not a directory: " in refusal(tmp_path / "file" / "run", recipe)
    path = tmp_path / "run"
    RunDir.open(path, recipe).close()

    def read_only(name: Path, *_: int) -> int:  # whoever runs the tests may write anywhere
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(name))

    monkeypatch.setattr("curr_reft.run_lock.os.open", read_only)
    with pytest.raises(UsageError, match=r"cannot be written to \(Read-only file system: .*--output"):
        RunDir.require_free(path, recipe, resume=True)
    assert "Read-only file system" in refusal(path, recipe, resume=True)


def test_no_room_for_the_name_of_the_owner_leaves_the_lock_free(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    RunDir.open(path, recipe).close()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("curr_reft.run_lock.os.pwrite", full)
        with pytest.raises(DiskFullError, match=r"\.lock: .* needed, .* free; .*Make room"):
            RunDir.open(path, recipe, resume=True)
    RunDir.open(path, recipe, resume=True).close()


def test_the_recipe_of_a_run_that_was_moved_names_it_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    before, after = (
        load_recipe(tmp_path / "recipe.yaml", ["--output", str(tmp_path / name)]) for name in ("before", "after")
    )
    RunDir.open(before.output, before).close()
    before.output.rename(after.output)
    RunDir.open(after.output, after, resume=True).close()
    assert load_recipe(after.output / "recipe.yaml") == after
    written = (after.output / "recipe.yaml").stat().st_mtime_ns
    RunDir.open(after.output, load_recipe(after.output / "recipe.yaml"), resume=True).close()
    assert (after.output / "recipe.yaml").stat().st_mtime_ns == written


def test_other_versions_are_said(tmp_path: Path, recipe: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "run"
    RunDir.open(path, recipe).close()
    record = read_json(path / "run.json")
    record["versions"]["torch"] = "1.0"
    (path / "run.json").write_text(json.dumps(record))
    RunDir.open(path, recipe, resume=True).close()
    assert "torch 1.0 -> 2." in caplog.text


HOLD = """
import sys, time
from curr_reft.recipe import load_recipe
from curr_reft.run_dir import RunDir
from curr_reft.run_lock import began_ticks
with RunDir.open(sys.argv[1], load_recipe(sys.argv[2])) as run:
    run.append_metrics([{"run": "a", "stage": "b", "step": 1}])
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_a_dead_one_does_not_count(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(path), str(tmp_path / "recipe.yaml")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        for resume in (False, True):
            text = refusal(path, recipe, resume)
            assert f"process {holder.pid} on {socket.gethostname()}" in text
            with pytest.raises(UsageError, match=f"process {holder.pid} on"):
                RunDir.require_free(path, recipe, resume)
        assert time.monotonic() - started < 1
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with RunDir.open(path, recipe, resume=True) as run:
        assert len(run.metrics()) == 1
        assert f"process {os.getpid()}" in refusal(path, recipe, resume=True)
    RunDir.open(path, recipe, resume=True).close()


FORK = """
import os, sys, time
from curr_reft.recipe import load_recipe
from curr_reft.run_dir import RunDir
from curr_reft.run_lock import began_ticks
with RunDir.open(sys.argv[1], load_recipe(sys.argv[2])):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def test_a_worker_that_outlives_a_killed_run_does_not_keep_the_lock(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", FORK, str(path), str(tmp_path / "recipe.yaml")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    worker = int(run.stdout.readline())
    try:
        assert "is held by another run" in refusal(path, recipe, resume=True)
        run.kill()
        run.wait()
        os.kill(worker, 0)  # it lives
        RunDir.open(path, recipe, resume=True).close()
    finally:
        os.kill(worker, signal.SIGKILL)


def test_asking_changes_nothing(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    RunDir.require_free(path, recipe)
    assert not path.exists()
    RunDir.open(path, recipe).close()
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    RunDir.require_free(path, recipe, resume=True)
    other = load_recipe(tmp_path / "recipe.yaml", ["--seed", "1"])
    for asked, resume, text in ((recipe, False, "in use"), (other, True, "seed: 0 -> 1")):
        with pytest.raises(UsageError, match=text):
            RunDir.require_free(path, asked, resume)
    assert {each.name: each.read_bytes() for each in path.iterdir()} == before


def test_metrics_after_a_step_are_dropped_for_that_stage_only(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    with RunDir.open(path, recipe) as run:
        assert run.metrics() == []
        for name, stage in (("curr_rl", "binary"), ("curr_rl", "open"), ("rl", "open")):
            run.append_metrics({"run": name, "stage": stage, "step": step} for step in range(5))
        with (path / "metrics.jsonl").open("a") as file:
            file.write('{"run": "rl", "st')  # a kill in the middle of a line
        run.truncate_after("curr_rl", "open", 2)
        run.append_metrics([{"run": "curr_rl", "stage": "open", "step": 3}])
        rows = [(row["run"], row["stage"], row["step"]) for row in run.metrics()]
    expected = [("curr_rl", "binary", step) for step in range(5)] + [("curr_rl", "open", step) for step in range(3)]
    assert rows == [*expected, *(("rl", "open", step) for step in range(5)), ("curr_rl", "open", 3)]


def remove(lock: Path) -> None:
    lock.unlink()


def replace(lock: Path) -> None:
    content = lock.read_bytes()
    lock.unlink()
    lock.write_bytes(content)


def write_over(lock: Path) -> None:
    """As a host does that a network file system's locks do not reach."""
    lock.write_text(json.dumps({"host": "elsewhere", "process": 1}))


@pytest.mark.parametrize("hurt", [remove, replace, write_over], ids=lambda hurt: hurt.__name__)
def test_who_lost_the_lock_writes_nothing_more(tmp_path: Path, recipe: Recipe, hurt: Callable[[Path], None]) -> None:
    path = tmp_path / "run"
    run = RunDir.open(path, recipe)
    run.append_metrics([{"run": "a", "stage": "b", "step": 1, "kind": "train"}])
    hurt(path / ".lock")
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    for write in (
        run.sync_metrics,
        lambda: run.append_metrics([{}]),
        lambda: run.note_seconds(3),
        lambda: run.mark_done("eval/base", {}),
        lambda: run.truncate_after("a", "b", 0),
    ):
        with pytest.raises(LostLockError, match=r"\.lock was .* while this run worked, .* go on with --resume"):
            write()
    with pytest.raises(LostLockError), run:
        run.set_state("done")
    assert {each.name: each.read_bytes() for each in path.iterdir()} == before  # nor is it marked failed
    (path / ".lock").unlink(missing_ok=True)
    with RunDir.open(path, recipe, resume=True) as run:
        assert run.run["owner"] == json.loads((path / ".lock").read_text())


def test_a_run_whose_directory_became_something_else_says_so(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    run = RunDir.open(path, recipe)
    path.rename(tmp_path / "moved")
    path.write_text("a file where the directory was")
    with pytest.raises(LostLockError, match=r"\.lock was removed while this run worked"), run:
        run.note_seconds(3)
    assert path.read_text() == "a file where the directory was"
    RunDir.open(tmp_path / "moved", recipe, resume=True).close()


def test_without_its_lock_file_a_run_is_found_by_the_process_it_names(tmp_path: Path, recipe: Recipe) -> None:
    path = tmp_path / "run"
    RunDir.open(path, recipe).close()
    state = read_json(path / "run.json")
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        lives = {"host": socket.gethostname(), "process": sleeper.pid, "began": began_ticks(sleeper.pid), "lock": "x"}
        assert state["owner"]["folder"] == path.stat().st_ino
        for owner, held in (
            (lives, True),
            ({**lives, "began": 1}, False),  # its number was given away again
            ({**lives, "host": "elsewhere"}, False),
            ({**lives, "process": os.getpid()}, False),
            ({**lives, "began": None}, False),
            ({**lives, "folder": path.stat().st_ino}, True),
            ({**lives, "folder": path.stat().st_ino + 1}, False),  # of the directory that this one is a copy of
            ("nobody", False),
            (None, False),
        ):
            (path / ".lock").unlink(missing_ok=True)
            (path / "run.json").write_text(json.dumps({**state, "owner": owner}))
            if held:
                assert f"(process {sleeper.pid} on {socket.gethostname()})" in refusal(path, recipe, resume=True)
                with pytest.raises(UsageError, match=r"though its \.lock was removed"):
                    RunDir.require_free(path, recipe, resume=True)
                assert not (path / ".lock").exists()
            else:
                RunDir.open(path, recipe, resume=True).close()
    finally:
        sleeper.kill()
        sleeper.wait()
    (path / "run.json").write_text(json.dumps({**state, "owner": lives}))  # dead, and collected
    (path / ".lock").unlink()
    RunDir.open(path, recipe, resume=True).close()
