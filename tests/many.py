"""Runs of several gloo processes on this machine, for tests: started as a user starts them, watched, killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import tiny_run

LIMIT = 200.0  # seconds any run may take; a busy machine needs a fifth of it
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}  # what accelerate launch sets from its configuration

# A few updates of one stage on both forms, so small that what AdamW makes of rounding stays below 1e-5.
SHORT = (
    *("--sampling.max_new_tokens", "12", "--rl.optimizer.lr", "1e-5", "--self_improvement", "null"),
    *("--curriculum.stages", "[{name: mixed, forms: {binary: 1, open: 1}, steps: rest}]"),
    *("--curriculum.validation_items", "2", "--evaluation.items", "2", "--evaluation.models", "[curr_rl]"),
    *("--evaluation.profile.items", "10", "--evaluation.bootstrap", "100"),
)


def torchrun(processes: int = 2) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)),
        *("--master_port", str(_free_port())),
    ]


def start(
    *words: str | Path, log: Path, launcher: list[str] | None = None, script: Path | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    """``curr-reft WORDS`` in two processes, or ``script WORDS``; all output goes to ``log``."""
    program = ["-m", "curr_reft"] if script is None else [str(script)]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*(launcher or torchrun()), *program, *map(str, words)],
            stdout=output,
            stderr=output,
            env={**os.environ, **tiny_run.ONE_THREAD, **environment},
            start_new_session=True,
        )


def wait(process: subprocess.Popen[bytes], limit: float = LIMIT) -> int:
    """The launcher's exit code. A run that does not end is killed, its processes too, and fails the test."""
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the run did not end in {limit:g} s") from None
    finally:
        for each in [*ranks(process).values(), process.pid]:
            if process.poll() is None or _is_there(each):
                os.kill(each, signal.SIGKILL)


def until(process: subprocess.Popen[bytes], seen: Callable[[], bool], log: Path) -> None:
    limit = time.monotonic() + LIMIT
    while not seen():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.02)


def ranks(process: subprocess.Popen[bytes]) -> dict[int, int]:
    """Number -> process id of those that the launcher started."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                own = (folder / "environ").read_bytes().split(b"\0") if parent == process.pid else []
            except (OSError, IndexError):  # it has just ended
                continue
            found.update({int(each[5:]): int(folder.name) for each in own if each.startswith(b"RANK=")})
    return found


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
