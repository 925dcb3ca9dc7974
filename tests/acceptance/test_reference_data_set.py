"""A person arrives with 200 rows in the reference data set's layout, and a tiny model instead of a large one.

As they come the rows have faults: ``check`` names each with its file and line. Repaired, they train through the three
stages, self-improvement and evaluation, by the command line, on two families, in full and with LoRA.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_run
import yaml
from reference_rows import COUNTS, ReferenceRows, write_reference_rows
from taught_models import taught_folder

from curr_reft.cli import main
from curr_reft.policy.load import load_policy
from curr_reft.recipe import load_recipe
from curr_reft.train.publish import read_published, weights_hash

STAGES = ("01-binary", "02-choice", "03-open")
TASKS = ("detection", "classification", "math")


def write_recipe(rows: ReferenceRows) -> Path:
    """Two updates a stage. Only what has to do with size differs from a recipe for a real model."""
    recipe = {
        "name": "reference",
        "model": {"threads": 1},
        "data": rows.data,
        "sampling": {"group_size": 6, "max_new_tokens": 40},
        "rl": {"prompts_per_step": 6, "optimizer": {"lr": 1e-3}, "objective": {"beta": 0.04}},
        "curriculum": {
            "total_steps": 6,
            "validation_items": 3,
            "skip_at_chance": False,  # a tiny model guesses
            "stages": [
                {"name": "binary", "forms": {"binary": 1}, "steps": 2},
                {"name": "choice", "forms": {"choice": 1}, "steps": 2, "replay": 0.3},
                {"name": "open", "forms": {"open": 1}, "steps": "rest", "replay": 0.3},
            ],
        },
        "checkpoint": {"every": 2, "keep_last": 1},
        "self_improvement": {
            "pools": {task: {"queries": 20, "quota": 10} for task in TASKS},
            "threshold": 0,
            "sft": {"steps": 2, "batch_size": 4, "optimizer": {"lr": 1e-3}},
        },
        "evaluation": {
            "models": ["base", "curr_rl", "curr_reft"],
            "items": 6,
            "bootstrap": 100,
            "gallery": 1,
            "profile": {"items": 10, "samples": 1},
        },
    }
    path = rows.folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def repaired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of the rows without their faults."""
    return write_recipe(write_reference_rows(tmp_path_factory.mktemp("repaired"), repaired=True))


@pytest.fixture(scope="module")
def taught(repaired: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in folders:
            folders[family] = taught_folder(
                family, tmp_path_factory.mktemp(family), load_recipe(repaired, ["--questions.style", "full"])
            )
        return folders[family]

    return folder


def test_there_are_two_hundred_rows(repaired: Path) -> None:
    files = list((repaired.parent / "grpo_data").rglob("*.jsonl"))
    assert len(files) == 9
    assert sum(len(file.read_text().splitlines()) for file in files) == 200


def test_check_names_every_fault_by_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_reference_rows(tmp_path)
    recipe = str(write_recipe(rows))
    assert main(["check", recipe]) == 2
    told = capsys.readouterr().err
    assert _says(told, rows.broken, "not JSON")
    assert _says(told, rows.missing, "classify/004.png' does not exist")
    assert _says(told, rows.repeated[1], rows.repeated[0], "(split train)")
    named = {word for line in told.splitlines() for word in re.findall(r"\w+\.jsonl:\d+", line)}
    assert named == {rows.broken, rows.missing, *rows.repeated}  # and nothing that is right


def _says(told: str, *words: str) -> bool:
    """Whether one line of a message holds all ``words``."""
    return any(all(word in line for word in words) for line in told.splitlines())


def test_check_finds_nothing_in_repaired_rows(
    repaired: Path, taught: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(repaired), "--model.path", str(taught("qwen2_5_vl"))]) == 0
    told = capsys.readouterr().out
    for form in ("binary", "choice", "open"):
        assert f"{3 * COUNTS['train']} {form}" in told


@pytest.mark.parametrize(
    ("family", "lora"),
    [
        ("qwen2_5_vl", False),
        pytest.param("qwen2_5_vl", True, marks=pytest.mark.slow),
        pytest.param("smolvlm", False, marks=pytest.mark.slow),
        pytest.param("smolvlm", True, marks=pytest.mark.slow),
    ],
)
def test_repaired_rows_train_through_the_whole_method(
    family: str, lora: bool, repaired: Path, taught: Callable[[str], Path], tmp_path: Path
) -> None:
    base, folder = taught(family), tmp_path / "run"
    flags = ["--model.path", base, "--output", folder, *(["--model.lora", "{rank: 8}"] if lora else [])]
    done = tiny_run.run(*flags, log=tmp_path / "log", command=("run", repaired))
    assert done == 0, (tmp_path / "log").read_text()
    rows = tiny_run.rows(folder)
    for stage, start in zip(STAGES, (None, *STAGES), strict=False):
        trained = [row for row in rows if row["stage"] == stage and row["kind"] == "train"]
        assert [row["step"] for row in trained] == [1, 2]
        assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in trained), stage
        assert max(row["reward"] for row in trained) > 0, stage
        published = read_published(folder / "stages" / stage)
        assert published is not None
        first = weights_hash(base) if start is None else weights_hash(folder / "stages" / start / "model")
        assert published.record["start_sha256"] == first
    summary = json.loads((folder / "summary.json").read_text())
    assert [stage["steps"] for stage in summary["stages"]] == [2, 2, 2]
    assert summary["self_improvement"]["queries"] == 60
    assert summary["self_improvement"]["kept"] > 0
    assert [row["step"] for row in rows if row["stage"] == "self_improvement" and row["kind"] == "train"] == [1, 2]
    for model in ("base", "curr_rl", "curr_reft"):
        scores = summary["evaluation"][model]["in_domain"]
        assert [scores[task]["n"] for task in TASKS] == [6, 6, 6]
    assert "01-binary" in (folder / "report.html").read_text()
    assert load_policy(folder / "model").frame == load_policy(base).frame  # a plain folder, the adapter merged into it
    assert weights_hash(folder / "model") == weights_hash(folder / "self-improve" / "model")
