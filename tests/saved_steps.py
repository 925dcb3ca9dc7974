"""Small checkpoints to save, hurt and read again, and children that are killed while they do."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from curr_reft.train.checkpoint import last_complete, load


def tensors(step: int, size: int = 64) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "model": {"weight": torch.full((size,), float(step)), "half": torch.full((3,), step, dtype=torch.bfloat16)},
        "optimizer": {"weight.exp_avg": torch.full((size,), step / 3)},
    }


def assert_is(folder: Path, step: int) -> None:
    """The newest whole checkpoint of ``folder`` is that of ``step``, with its content."""
    found = last_complete(folder)
    assert found is not None
    assert found.step == step
    loaded = load(found)
    assert loaded.state == {"step": step}
    for name, group in tensors(step).items():
        for key, value in group.items():
            assert torch.equal(loaded.tensors[name][key], value)
            assert loaded.tensors[name][key].dtype == value.dtype


def in_child(work: Callable[[], None], kill_after: float | None = None) -> int:
    """The exit code of ``work`` in a forked child, which is killed (-9) after ``kill_after`` seconds."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at_file_event(number: int) -> None:
    """Kill this process (-9) at its ``number``-th file operation from now."""
    count = 0

    def hook(event: str, _: object) -> None:
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def swap(path: Path) -> None:
    shutil.copy(path.parent.parent / "step-000001" / path.name, path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in a manifest, a digit of a hash
    path.write_bytes(content)
