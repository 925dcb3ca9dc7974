"""Runs of ``recipes/tiny.yaml`` for tests: started, watched, killed, compared.

Processes are forked from one that has imported everything, because the imports take longer than the runs.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parent / "recipes" / "tiny.yaml"
PROGRAM = Path(sys.executable).with_name("curr-reft")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
LIMIT = 240.0  # seconds any one process may take; a busy machine needs a tenth of it

# Files that hold times, the path of the run, or plots of times. Everything else must be equal byte for byte.
TIMED = {"metrics.jsonl", "summary.json", "run.json", "recipe.yaml", "report.html", "README.md", "run.log", ".lock"}


def curr_reft(*words: str | Path, timeout: float = LIMIT) -> subprocess.CompletedProcess[str]:
    """The installed command, as a user types it."""
    return subprocess.run(
        [PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, **ONE_THREAD},
    )


def _server() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["curr_reft.run"])
    return context


def start(*words: str | Path, log: Path, command: Sequence[str | Path] = ("run", RECIPE)) -> BaseProcess:
    """``curr-reft COMMAND words...`` in a process of its own; its output goes to the end of ``log``."""
    return fork(_carry_out, [*map(str, (*command, *words))], log)


def fork(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """``target(*arguments)`` in a process forked from one that has imported what a run needs."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        process: BaseProcess = _server().Process(target=target, args=arguments)
        process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return process


def begin(log: Path) -> None:
    """The first thing in a forked process: one thread, and all output to the end of ``log``."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def _carry_out(words: list[str], log: Path) -> None:
    from curr_reft.cli import main

    begin(log)
    sys.exit(main(words))


def run(*words: str | Path, log: Path, command: Sequence[str | Path] = ("run", RECIPE)) -> int:
    """``start`` and wait for the end; the exit code."""
    return wait(start(*words, log=log, command=command))


def wait(process: BaseProcess) -> int:
    process.join(LIMIT)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"the run did not end in {LIMIT:g} s")
    return process.exitcode


def end_when(process: BaseProcess, seen: Callable[[], bool], how: signal.Signals = signal.SIGKILL) -> int:
    """Send ``how`` as soon as ``seen()``; the exit code. Fails when the process ends before that."""
    limit = time.monotonic() + LIMIT
    while not seen():
        assert process.is_alive(), f"the run ended (code {process.exitcode}) before the moment to end it came"
        assert time.monotonic() < limit, "the moment to end the run never came"
        time.sleep(0.001)
    assert process.pid is not None
    os.kill(process.pid, how)
    return wait(process)


def measured_answers(cache: Path) -> int:
    """Answers in a cache of ``data difficulty``; 0 while it is not there or being made."""
    if not cache.is_file():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{cache}?mode=ro", uri=True)) as db:
        try:
            return int(db.execute("SELECT count(*) FROM samples").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def rows(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    text = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]


def untimed_rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in rows(folder)]


def untimed_summary(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return {key: value for key, value in summary.items() if key != "seconds"}


def files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def assert_same(folder: Path, reference: Path) -> None:
    """Two runs came to the same, bit for bit: every file there is, but for times; no leftovers."""
    ours, theirs = files(folder), files(reference)
    assert set(ours) == set(theirs)
    different = [name for name in ours if name not in TIMED and ours[name].read_bytes() != theirs[name].read_bytes()]
    assert different == []
    assert untimed_rows(folder) == untimed_rows(reference)
    assert untimed_summary(folder) == untimed_summary(reference)
