"""Pickle: only safetensors and JSON are written and read. Payloads that would run are refused, and none runs."""

import ast
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch

from curr_reft.cli import main
from curr_reft.errors import CheckpointError, CurrReftError
from curr_reft.policy.load import load_policy, model_folder
from curr_reft.train.checkpoint import (
    Checkpoint,
    at_step,
    file_table,
    last_complete,
    load,
    save_checkpoint,
    write_manifest,
)

SOURCE = Path(__file__).parents[2] / "src" / "curr_reft"

# What reads or writes pickles, by the name it is called by. numpy's load does so only where it is asked to.
CALLS = {"torch.load", "torch.save", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "pickle.Unpickler",
         "joblib.load", "joblib.dump", "numpy.load", "np.load", "marshal.loads", "marshal.load", "shelve.open",
         "dill.load", "cloudpickle.load", "cloudpickle.loads", "yaml.load", "yaml.unsafe_load"}  # fmt: skip
ALLOWED = {
    # Between a run and the processes it started, over a pipe of their own; never a file.
    ("policy/image_wire.py", "pickle.dumps"),
    ("policy/image_wire.py", "pickle.loads"),
    # RefCOCO's published expressions, by a reader that refuses every name in them.
    ("data/loaders/plain_pickle.py", "pickle.Unpickler"),
}


class Payload:
    """Makes the folder ``bait`` where it is unpickled."""

    def __init__(self, bait: Path) -> None:
        self.bait = bait

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.bait),)


@pytest.fixture
def bait(tmp_path: Path) -> Path:
    return tmp_path / "executed"


def test_the_payload_runs_where_it_is_read(bait: Path) -> None:
    pickle.loads(pickle.dumps(Payload(bait)))
    assert bait.is_dir()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.pth", "model.safetensors"])
@pytest.mark.parametrize("torchs", [True, False], ids=["torch.save", "pickle"])
def test_as_the_weights_of_a_model(
    name: str, torchs: bool, bait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the user's door, as for a model somebody sent."""
    folder = tmp_path / "model"
    shutil.copytree(model_folder("embedded"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    content = {"lm_head.weight": Payload(bait)}
    torch.save(content, folder / name) if torchs else (folder / name).write_bytes(pickle.dumps(content))
    with pytest.raises(CurrReftError) as refused:
        load_policy(str(folder))
    said = "the weights cannot be loaded" if name == "model.safetensors" else f"are pickled ({name})"
    assert said in str(refused.value)
    assert main(["eval", str(folder), str(tiny_run.RECIPE), "--out", str(tmp_path / "out.json")]) in (1, 2)
    assert "error: " in capsys.readouterr().err
    assert not bait.exists()


def test_beside_the_weights_of_a_model(bait: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_folder("embedded"), tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"lm_head.weight": Payload(bait)}))
    load_policy(str(folder))
    assert not bait.exists()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """Model, optimizer and state of a step."""
    tensors = {"model": {"w": torch.ones(2)}, "optimizer": {"w.exp_avg": torch.zeros(2)}}
    return Checkpoint(path=save_checkpoint(tmp_path / "checkpoints", 1, tensors, {"step": 1}), step=1)


def vouch(path: Path) -> None:
    """A manifest that says of what is there now that it is right: who brings a payload can bring a manifest too."""
    write_manifest(path, 1, file_table(path))


@pytest.mark.parametrize("name", ["optimizer.safetensors", "model.safetensors", "state.json"])
def test_as_a_file_of_a_checkpoint(name: str, checkpoint: Checkpoint, bait: Path) -> None:
    (checkpoint.path / name).write_bytes(pickle.dumps({"w.exp_avg": Payload(bait)}))
    assert last_complete(checkpoint.path.parent) is None  # without a manifest that vouches for it, it is damage
    (checkpoint.path.parent / f".damaged-{checkpoint.path.name}").rename(checkpoint.path)
    vouch(checkpoint.path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(at_step(checkpoint.path.parent, 1))
    assert not bait.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "model.pt", "training_args.bin", "rng_state.pth", "scheduler.pt"])
def test_beside_a_checkpoint(name: str, checkpoint: Checkpoint, bait: Path) -> None:
    """The names under which other trainers keep their state are no files of ours."""
    torch.save({"w": Payload(bait)}, checkpoint.path / name)
    for vouched in (False, True):
        if vouched:
            vouch(checkpoint.path)
        found = last_complete(checkpoint.path.parent)
        assert found == checkpoint
        assert set(load(found).tensors) == {"model", "optimizer"}
    assert not bait.exists()


def test_a_run_writes_none(finished: Any) -> None:
    """No file of a finished run is a pickle, whatever its name: neither plain nor in torch's archive."""
    found = tiny_run.files(finished.path)
    kinds = {Path(name).suffix for name in found if Path(name).name != ".lock"}
    assert kinds <= {".safetensors", ".json", ".jsonl", ".parquet", ".yaml", ".jinja", ".html", ".md", ".png", ".svg",
                     ".sqlite", ".txt", ".log"}  # fmt: skip
    for name, path in found.items():
        start = path.read_bytes()[:4]
        assert start[:1] != b"\x80", name
        assert start[:2] != b"PK", name


def called(tree: ast.AST) -> set[str]:
    """Dotted names that are called, or given as a base class."""
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    bases = [base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]
    return {ast.unparse(each) for each in (*functions, *bases) if isinstance(each, ast.Attribute)}


def imported(tree: ast.AST) -> set[str]:
    """Names taken out of their module, under which a call would not be seen."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in found for alias in node.names}


def uses(text: str) -> set[str]:
    tree = ast.parse(text)
    return (called(tree) | imported(tree)) & CALLS


def test_no_source_reads_or_writes_pickles_but_where_it_is_said() -> None:
    found = {
        (path.relative_to(SOURCE).as_posix(), name)
        for path in SOURCE.rglob("*.py")
        for name in uses(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    "line", ["torch.load(path)", "from pickle import loads", "def f():\n    return np.load(p, allow_pickle=True)"]
)
def test_the_test_above_can_fail(line: str) -> None:
    assert uses(line)
