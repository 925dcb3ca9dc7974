"""Saves that are cut off, by a kill or a full disk: the last checkpoint stays whole, and saving goes on after it."""

import os
import random
import resource
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from saved_steps import assert_is, in_child, kill_at_file_event, tensors

from curr_reft.errors import DiskFullError
from curr_reft.train.checkpoint import last_complete, load, prune, save_checkpoint


def test_a_kill_at_every_file_operation_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """Step 1 is there; the child replaces it, saves step 2 and prunes, and is killed at its n-th operation."""
    number = 0
    code = -signal.SIGKILL
    seen = set()
    while code != 0:
        number += 1
        folder = tmp_path / str(number)
        save_checkpoint(folder, 1, tensors(1), {"step": 1})

        def work(folder: Path = folder, number: int = number) -> None:
            kill_at_file_event(number)
            save_checkpoint(folder, 1, tensors(1), {"step": 1})
            save_checkpoint(folder, 2, tensors(2), {"step": 2})
            prune(folder, keep_last=1)

        code = in_child(work)
        assert code in (0, -signal.SIGKILL)
        found = last_complete(folder)
        assert found is not None
        assert_is(folder, found.step)
        assert [name for name in os.listdir(folder) if not name.startswith("step-")] == []
        seen.add(found.step)
        save_checkpoint(folder, 3, tensors(3), {"step": 3})
        assert_is(folder, 3)
    assert seen == {1, 2}
    assert number > 20


def test_kills_at_random_moments_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    """The child goes on from the last whole checkpoint, as a run does, and is killed again and again."""
    rng = random.Random(0)

    def work() -> None:
        found = last_complete(tmp_path)
        step = found.step if found else 0
        while True:
            step += 1
            save_checkpoint(tmp_path, step, tensors(step, size=200_000), {"step": step})
            prune(tmp_path, keep_last=2)

    before = 0
    for _ in range(25):
        assert in_child(work, kill_after=rng.uniform(0.02, 0.12)) == -signal.SIGKILL
        found = last_complete(tmp_path)
        reached = found.step if found else 0
        assert reached >= before
        if found:
            assert torch.equal(load(found).tensors["model"]["weight"], torch.full((200_000,), float(reached)))
        before = reached
    assert before > 1


def test_a_full_disk_is_reported_and_the_last_checkpoint_is_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, tensors(1), {"step": 1})
    report = tmp_path / "report"

    def work() -> None:
        # A limit of the process makes the writes of any file fail beyond it, as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            save_checkpoint(tmp_path, 2, tensors(2, size=100_000), {"step": 2})
        except DiskFullError as error:
            report.write_text(str(error))

    assert in_child(work) == 0
    message = report.read_text()
    assert "step-000002: 865.5 kB needed" in message
    assert "free" in message
    assert "--resume" in message
    report.unlink()
    assert os.listdir(tmp_path) == ["step-000001"]
    assert_is(tmp_path, 1)
    save_checkpoint(tmp_path, 2, tensors(2), {"step": 2})
    assert_is(tmp_path, 2)


def test_a_small_file_system_fills_up(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        for step in range(1, 4):  # 512 kB each
            save_checkpoint(disk, step, tensors(step, size=64_000), {"step": step})
        last = 3
        with pytest.raises(DiskFullError, match=r"needed, .* free"):
            save_checkpoint(disk, 4, tensors(4, size=64_000), {"step": 4})
        found = last_complete(disk)
        assert found is not None
        assert found.step == last
        prune(disk, keep_last=1)
        save_checkpoint(disk, last + 1, tensors(last + 1, size=64_000), {"step": last + 1})
    finally:
        subprocess.run(["umount", disk], check=True)
