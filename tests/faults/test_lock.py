"""T7: two runs, one directory. Exactly one runs; the other is refused at once by name; a dead owner does not count."""

import os
import signal
import socket
import time
from pathlib import Path

import many
import tiny_run

FLAGS = (*many.SHORT, "--curriculum.total_steps", "2")
REFUSED = 2  # exit code
AT_ONCE = 2.0  # seconds


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
        third = tmp_path / "third"
        assert tiny_run.run("--output", run, *FLAGS, log=third) == REFUSED  # its server is warm by now
        started = time.monotonic()
        assert tiny_run.run("--output", run, "--resume", *FLAGS, log=third) == REFUSED
        assert time.monotonic() - started < AT_ONCE
        assert third.read_text().count(f"process {owner.pid} on") == 2
    finally:
        owner.kill()
    assert tiny_run.wait(owner) == -signal.SIGKILL
    assert tiny_run.run("--output", run, "--resume", *FLAGS, log=log) == 0, log.read_text()
