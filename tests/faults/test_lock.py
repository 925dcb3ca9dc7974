"""T7: two runs, one directory. Exactly one runs; the other is refused at once by name; a dead owner does not count."""

import os
import resource
import signal
import socket
import time
from pathlib import Path

import many
import tiny_run

FLAGS = (*many.SHORT, "--curriculum.total_steps", "2")
REFUSED = 2  # exit code
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
