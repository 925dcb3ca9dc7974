"""T7: two runs, one directory. Exactly one runs; the other is refused at once by name; a dead owner does not count."""

import os
import resource
import signal
import socket
import time
from pathlib import Path

import many
import tiny_run

from curr_reft.train.checkpoint import last_complete

FLAGS = (*many.SHORT, "--curriculum.total_steps", "2")
FAILED, REFUSED = 1, 2  # exit codes
AT_ONCE = 2.0  # seconds of a processor: how long it waits for one on a busy machine is not the program's doing


def _work_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_of_two_runs_in_one_directory_exactly_one_runs_until_it_is_killed(tmp_path: Path) -> None:
    run, log, other = tmp_path / "run", tmp_path / "log", tmp_path / "other"
    both = [tiny_run.start("--output", run, *FLAGS, log=path) for path in (log, other)]
    limit = time.monotonic() + tiny_run.LIMIT
    while all(process.is_alive() for process in both) and time.monotonic() < limit:
        time.sleep(0.01)
    (refused,) = [place for place, process in enumerate(both) if not process.is_alive()]
    owner = both[1 - refused]
    assert both[refused].exitcode == REFUSED
    assert f"process {owner.pid} on {socket.gethostname()}" in (log, other)[refused].read_text()

    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGSTOP)  # it holds the directory for as long as the question takes
    try:
        for resume in ((), ("--resume",)):
            before = _work_of_children()
            third = tiny_run.curr_reft("run", tiny_run.RECIPE, "--output", run, *FLAGS, *resume)  # as typed, cold
            assert third.returncode == REFUSED, third.stderr
            assert f"is held by another run (process {owner.pid} on {socket.gethostname()})" in third.stderr
            assert third.stdout == ""
            assert _work_of_children() - before < AT_ONCE
    finally:
        owner.kill()
    assert tiny_run.wait(owner) == -signal.SIGKILL
    assert tiny_run.run("--output", run, "--resume", *FLAGS, log=log) == 0, log.read_text()


def test_a_lock_file_that_is_removed_while_its_run_lives_lets_no_second_one_in(tmp_path: Path) -> None:
    """The run that goes on meanwhile stops before its next write, and leaves what it saved."""
    run, log = tmp_path / "run", tmp_path / "log"
    owner = tiny_run.start("--output", run, *FLAGS, log=log)
    limit = time.monotonic() + tiny_run.LIMIT
    while not list(run.glob("stages/*/checkpoints/step-*")) and time.monotonic() < limit:
        time.sleep(0.01)
    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGSTOP)
    try:
        saved = sorted(run.rglob("*"))
        (run / ".lock").unlink()
        for words in ((), ("--resume",)):
            other = tmp_path / f"other{len(words)}"
            assert tiny_run.run("--output", run, *FLAGS, *words, log=other) == REFUSED
            if words:
                told = f"is held by another run (process {owner.pid} on {socket.gethostname()}), though its .lock was"
                assert told in other.read_text()
        assert sorted(run.rglob("*")) == [path for path in saved if path.name != ".lock"]
    finally:
        os.kill(owner.pid, signal.SIGCONT)
    assert tiny_run.wait(owner) == FAILED
    assert f"{run / '.lock'} was removed while this run worked" in log.read_text()
    assert "go on with --resume" in log.read_text()
    # What it saved is whole. That a run goes on from there is what the test above and those of kills show.
    (checkpoints,) = run.glob("stages/*/checkpoints")
    assert last_complete(checkpoints) is not None
