"""T5: a real small file system that is too small, or fills up in the middle of a run, and is made room on."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import many
import pytest
import tiny_run

from curr_reft.files import free_space
from curr_reft.train import checkpoint as checkpoints

FLAGS = (*many.SHORT, "--curriculum.total_steps", "6", "--checkpoint.every", "1", "--checkpoint.keep_last", "1")
NO_SPACE = 3  # exit code


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 120 MB of its own."""
    path = tmp_path / "disk"
    path.mkdir()
    if _mount(path, "size=120M"):
        pytest.skip("no right to mount a small file system here")
    yield path
    subprocess.run(["umount", path], check=True)


def _mount(path: Path, options: str) -> int:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
    return subprocess.run(command, capture_output=True, check=False).returncode


def leave_free(disk: Path, size: int) -> Path:
    """Fill ``disk`` with a file of another program until ``size`` bytes are free."""
    ballast = disk / "ballast"
    with open(ballast, "wb") as file:
        for _ in range((free_space(disk) - size) >> 20):
            file.write(bytes(1 << 20))
    return ballast


def test_a_run_that_two_checkpoints_do_not_fit_is_refused_before_its_start(disk: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ballast = leave_free(disk, 8 << 20)
    assert tiny_run.run("--output", disk / "run", *FLAGS, log=log) == NO_SPACE
    text = log.read_text()
    assert re.search(r"disk: at most [\d.]+ MB in \S+/run, [\d.]+ MB free; that is not enough\n", text)
    assert re.search(r"no space left to write \S+/run: [\d.]+ MB needed, [\d.]+ MB free;", text)
    assert "Traceback" not in text
    assert tiny_run.rows(disk / "run") == []
    assert not (disk / "run" / "eval").exists()
    ballast.unlink()
    assert tiny_run.run("--output", disk / "run", "--resume", *FLAGS, log=log) == 0, log.read_text()


def test_a_disk_that_fills_up_costs_no_checkpoint(disk: Path, tmp_path: Path) -> None:
    run, log = disk / "run", tmp_path / "log"
    folder = run / "stages" / "01-mixed" / "checkpoints"
    process = tiny_run.start("--output", run, *FLAGS, log=log)

    def one_saved() -> bool:
        return (folder / "step-000000" / "manifest.json").exists()

    ballast: list[Path] = []

    def full() -> bool:
        if one_saved() and not ballast:
            ballast.append(leave_free(disk, 1 << 20))
        return not process.is_alive()

    while not full():
        process.join(0.005)
    assert tiny_run.wait(process) == NO_SPACE, log.read_text()
    text = log.read_text()
    assert "no space left to write" in text
    assert "needed" in text
    assert "Traceback" not in text
    kept = checkpoints.last_complete(folder)
    assert kept is not None, "the last good checkpoint is intact"
    steps, again = tiny_run.rows(run), tmp_path / "again"
    assert tiny_run.run("--output", run, "--resume", *FLAGS, log=again) == NO_SPACE  # no room was made
    assert re.search(r"disk: at most .* MB of it there, .* free; that is not enough\n", again.read_text())
    assert re.search(r"no space left to write \S+/run: [\d.]+ MB needed, [\d.]+ k?M?B free;", again.read_text())
    assert "step" not in again.read_text().partition("disk: ")[2]
    assert tiny_run.rows(run) == steps
    ballast[0].unlink()
    assert tiny_run.run("--output", run, "--resume", *FLAGS, log=log) == 0, log.read_text()
    assert json.loads((run / "run.json").read_text())["state"] == "done"
    whole = tmp_path / "whole"
    assert tiny_run.run("--output", whole, *FLAGS, log=log) == 0, log.read_text()
    tiny_run.assert_same(run, whole)
