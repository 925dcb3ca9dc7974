"""T6, S8: SIGTERM, Ctrl-C and a closed terminal lose no finished step, wherever they come; the second signal ends at
once; a resumed run ends the same. A console that nobody reads any more ends nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft import stopping
from curr_reft.train import checkpoint as checkpoints

SOON = 60.0  # seconds from the signal to the end: what takes longer hangs, however busy the machine is
TRAININGS = {
    "01-binary": "stages/01-binary",
    "02-choice": "stages/02-choice",
    "03-open": "stages/03-open",
    "rl": "baselines/rl",
    "sft": "baselines/sft",
    "self_improvement": "self-improve",
}


def trained(run: Path, stage: str, step: int) -> bool:
    return any(row["stage"] == stage and row["kind"] == "train" and row["step"] == step for row in tiny_run.rows(run))


def saving(run: Path, stage: str) -> bool:
    folder = run / "stages" / stage / "checkpoints"
    return folder.is_dir() and any(name.startswith(".tmp-step-") for name in os.listdir(folder))


# Moments in the order of a run. On a machine that stalls, a signal may come so late that the next moment is over too.
LATE = 2
MOMENTS: dict[str, tuple[signal.Signals, Callable[[Path], bool]]] = {
    "profiling": (signal.SIGTERM, lambda run: (run / "data" / "card.json").exists()),
    "a stage's first step": (signal.SIGTERM, lambda run: trained(run, "01-binary", 1)),
    "the second stage between two save points": (signal.SIGINT, lambda run: trained(run, "02-choice", 1)),
    "a checkpoint's save": (signal.SIGTERM, lambda run: saving(run, "03-open")),
    "a baseline": (signal.SIGHUP, lambda run: trained(run, "rl", 5)),
    "evaluation": (signal.SIGTERM, lambda run: (run / "eval" / "rl.json").exists()),
    "the SFT baseline": (signal.SIGTERM, lambda run: trained(run, "sft", 1)),
    "sampling": (signal.SIGTERM, lambda run: (run / "self-improve").exists()),
    "fine-tuning": (signal.SIGINT, lambda run: trained(run, "self_improvement", 1)),
    "the report": (signal.SIGTERM, lambda run: (run / "summary.json").exists()),
}


def assert_nothing_lost(run: Path) -> None:
    """Every training that is under way has a whole checkpoint of its last finished step."""
    for stage, place in TRAININGS.items():
        done = [row["step"] for row in tiny_run.rows(run) if row["stage"] == stage and row["kind"] == "train"]
        if done and not (run / place / "manifest.json").exists():
            found = checkpoints.last_complete(run / place / "checkpoints")
            assert found is not None
            assert found.step == max(done), stage


def test_a_run_told_to_stop_at_many_moments_loses_no_step(finished: Any, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    stops = 0
    for name, (how, seen) in MOMENTS.items():
        if seen(run):
            continue
        process = tiny_run.start("--output", run, "--resume", log=log)
        started = 0.0

        def now(seen: Callable[[Path], bool] = seen) -> bool:
            nonlocal started
            started = time.monotonic()
            return seen(run)

        code = tiny_run.end_when(process, now, how)
        assert time.monotonic() - started < SOON, name
        assert code == 128 + how, f"{name}: {log.read_text()}"
        assert_nothing_lost(run)
        state = json.loads((run / "run.json").read_text())
        if state["state"] == "interrupted":
            assert state["ended_by"] == f"{how.name} (exit code {code})"
            assert f"stopped by {how.name}: what is done is saved in {run}" in log.read_text()
            stops += 1
    assert tiny_run.run("--output", run, "--resume", log=log) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert log.read_text().count("stopped by SIG") == stops >= len(MOMENTS) - LATE
    tiny_run.assert_same(run, finished.path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stops_at_random_moments(finished: Any, tmp_path: Path) -> None:
    rng = random.Random(0)
    run, log, stops = tmp_path / "run", tmp_path / "log", 0
    while stops < 20:
        process = tiny_run.start("--output", run, "--resume", log=log)
        time.sleep(rng.uniform(1.0, 4.0))
        if not process.is_alive():
            assert process.exitcode == 0, log.read_text()
            tiny_run.assert_same(run, finished.path)
            run = tmp_path / f"run-{stops}"  # it was through: the next signals meet a new run
            continue
        assert process.pid is not None
        started = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        assert tiny_run.wait(process) == 143, log.read_text()
        assert time.monotonic() - started < SOON
        assert_nothing_lost(run)
        stops += 1
    assert tiny_run.run("--output", run, "--resume", log=log) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    tiny_run.assert_same(run, finished.path)


STUCK = """
import sys, time
from curr_reft import stopping
stopping.listen()
with stopping.held():
    print("held", flush=True)
    while stopping.asked() is None:
        time.sleep(0.01)
    print("heard", flush=True)
    time.sleep(60)
"""


def test_the_second_signal_ends_at_once_and_its_echo_does_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        process.terminate()
        assert process.stdout.readline() == "heard\n"
        process.terminate()  # what a launcher passes on
        time.sleep(stopping.ECHO + 0.2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(2) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()


OVER = """
import os, signal, sys
from curr_reft import cli, stopping
stopping.listen()
print(cli.main(["status", sys.argv[1]]), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
print("still here", flush=True)
"""


def test_a_command_that_is_over_is_not_ended_by_a_late_signal(tmp_path: Path) -> None:
    """Between its last word and the end of the process: the exit code is what became of it."""
    done = subprocess.run(
        [sys.executable, "-c", OVER, str(tmp_path / "none")], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "2\nstill here\n"


EARLY = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
from curr_reft import cli
from curr_reft.commands import run
run.read_recipe = lambda _: os.kill(os.getpid(), signal.{name})
sys.exit(cli.main(["run", "recipe.yaml"]))
"""


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_stop_before_there_is_a_run_says_so(name: str, code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY.format(name=name)], capture_output=True, text=True, timeout=60, check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert done.stderr == (
        f"stopped by {name} before there was anything to save: give the command again (exit code {code})\n"
    )
    assert list(tmp_path.iterdir()) == []


NOHUP = """
import os, signal
from curr_reft import stopping
signal.signal(signal.SIGHUP, signal.{action})
for _ in range(2):
    stopping.listen()
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        print("goes on")
    except stopping.Stopped as stopped:
        print(stopped.exit_code)
"""


@pytest.mark.parametrize(("action", "said"), [("SIG_IGN", "goes on"), ("SIG_DFL", "129")])
def test_nohup_is_respected(action: str, said: str) -> None:
    code = NOHUP.format(action=action)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{said}\n" * 2


SMALL = """
name: small
data: {shapes: {train: {math: 4}, validation: {math: 2}, test: {math: 2}}}
curriculum: {total_steps: 2, stages: [{name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base]}
"""


def test_a_run_outlives_the_reader_of_its_output(tmp_path: Path) -> None:
    """``curr-reft run ... 2>&1 | head -1``: the pipe is closed after the first line, and the run comes to its end."""
    (tmp_path / "small.yaml").write_text(SMALL)
    process = subprocess.Popen(
        [tiny_run.PROGRAM, "run", tmp_path / "small.yaml", "--output", tmp_path / "run"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **tiny_run.ONE_THREAD},
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.readline()
    process.stdout.close()
    assert process.wait(tiny_run.LIMIT) == 0, first
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "done"
    assert (tmp_path / "run" / "report.html").is_file()


GONE = """
import os, sys
from curr_reft import stopping
terminal, own = os.openpty()
for descriptor in (1, 2):
    os.dup2(own, descriptor)
os.close(own)
os.close(terminal)  # from here on a write to the terminal fails
with stopping.outlive_console():
    for stream in (sys.stdout, sys.stderr):
        print("one", file=stream, flush=True)
    print("two", flush=True)
    os.write(int(sys.argv[1]), b"went on")
"""


def test_a_closed_terminal_takes_nothing_with_it() -> None:
    reader, writer = os.pipe()
    done = subprocess.run([sys.executable, "-c", GONE, str(writer)], pass_fds=[writer], timeout=60, check=False)
    os.close(writer)
    with os.fdopen(reader) as read:
        assert (done.returncode, read.read()) == (0, "went on")


CLEANING = """
import os, signal, weakref
from curr_reft import stopping

class Thing:
    pass

stopping.listen()
thing = Thing()
reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
del thing  # in this callback Python drops whatever is raised
print(stopping.asked(), flush=True)
try:
    stopping.point()
except stopping.Stopped as stopped:
    print(stopped.exit_code)
"""


def test_a_signal_that_comes_while_an_object_is_cleaned_up_is_met_at_the_next_point() -> None:
    done = subprocess.run([sys.executable, "-c", CLEANING], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (f"{int(signal.SIGTERM)}\n143\n", "")


# On one processor the child has not begun to run when it is told to end: the signal meets it inside of fork.
POOL = """
import multiprocessing, os, time
from curr_reft import stopping
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
stopping.listen()
with stopping.held():
    for _ in range(20):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join(2)
        print(child.exitcode, stopping.asked())
        child.kill()
"""


def test_a_process_that_a_reward_forked_can_be_ended() -> None:
    """A pool ends its workers so: a child that only noted the signal would hold the reward up until its time limit."""
    done = subprocess.run([sys.executable, "-c", POOL], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{-signal.SIGTERM} None\n" * 20
