"""T4: a damaged newest checkpoint by the user's door."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import many
import pytest
import tiny_run

FLAGS = (
    *many.SHORT,
    *("--curriculum.total_steps", "4", "--checkpoint.every", "1", "--checkpoint.keep_last", "2"),
    *("--curriculum.stages", "[{name: one, forms: {binary: 1}, steps: 3}, {name: two, forms: {open: 1}, steps: rest}]"),
)
CHECKPOINTS = Path("stages", "01-one", "checkpoints")


def truncated(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size // 2)


def removed(path: Path) -> None:
    path.unlink()


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flipped(path: Path) -> None:
    """One bit: the size is right, the hash is not."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


FILES = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
HURTS = (truncated, removed, zeroed, flipped)
SAMPLE = {("optimizer.safetensors", removed), ("model.safetensors", flipped)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    assert tiny_run.run("--output", folder / "run", *FLAGS, log=folder / "log") == 0, (folder / "log").read_text()
    return folder / "run"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, killed in its first stage with two checkpoints after a step."""
    folder = tmp_path_factory.mktemp("killed")
    run = folder / "run"
    process = tiny_run.start("--output", run, *FLAGS, log=folder / "log")
    second = run / CHECKPOINTS / "step-000002" / "manifest.json"
    assert tiny_run.end_when(process, second.exists) == -signal.SIGKILL
    return run


@pytest.mark.parametrize(
    ("name", "hurt"),
    [
        pytest.param(name, hurt, marks=() if (name, hurt) in SAMPLE else pytest.mark.slow)
        for name in FILES
        for hurt in HURTS
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_a_damaged_newest_checkpoint_costs_a_warning(
    whole: Path, killed: Path, tmp_path: Path, name: str, hurt: Callable[[Path], None]
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(killed, run)
    newest = max((run / CHECKPOINTS).glob("step-*"))
    hurt(newest / name)
    assert tiny_run.run("--output", run, "--resume", *FLAGS, log=log) == 0, log.read_text()
    (warning,) = [line for line in log.read_text().splitlines() if "damaged checkpoint" in line]
    assert warning.count(str(newest)) == 1
    assert f"{newest / name} " in warning
    assert "going back to step-" in warning
    tiny_run.assert_same(run, whole)  # with the optimizer of the checkpoint it went back to, or this would not hold
