"""Commands find the recipe where people have it: in the directory of a run, or shipped, by its name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft.cli import main
from curr_reft.recipe_source import find, shipped


@pytest.fixture
def copy(finished: Any, tmp_path: Path) -> Path:
    """The finished run at another place than it was made."""
    return Path(shutil.copytree(finished.path, tmp_path / "moved"))


def test_eval_takes_the_recipe_of_the_run_and_of_a_model_in_it(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = json.loads((copy / "summary.json").read_text())["evaluation"]
    words = ["--split", "in_domain", "--json", str(tmp_path / "scores.json")]
    for model, name in ((copy, "curr_reft"), (copy / "baselines" / "sft" / "model", "sft")):
        assert main(["eval", str(model), *words]) == 0, capsys.readouterr().err
        scores = json.loads((tmp_path / "scores.json").read_text())["evaluation"]
        assert scores == {"in_domain": expected[name]["in_domain"]}


def test_a_run_is_resumed_by_its_directory_wherever_it_was_moved(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copy.parent)
    for name in ("moved", str(copy), "moved/"):
        assert main(["run", name, "--resume"]) == 0
        assert "moved/report.html" in capsys.readouterr().out
    assert main(["run", "moved"]) == 2
    assert "is in use" in capsys.readouterr().err


def test_compare_takes_its_folder_and_a_run(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it would carry out, and where."""
    started: list[tuple[Path, list[int]]] = []

    def compare(recipes: Any, out: Path, carry_out: Any) -> dict[str, Any]:
        assert [each.output for each in recipes] == [out / f"seed-{each.seed}" for each in recipes]
        assert recipes[0].curriculum.total_steps == 8
        started.append((out, [each.seed for each in recipes]))
        return {}

    monkeypatch.setattr("curr_reft.compare.compare", compare)
    monkeypatch.setattr("curr_reft.compare.lines", lambda found: [])
    seeds = copy.parent / "seeds"
    shutil.copytree(copy, seeds / "seed-0")
    assert main(["compare", str(seeds)]) == 0, capsys.readouterr().err
    assert main(["compare", str(seeds), "--seeds", "0", "4"]) == 0, capsys.readouterr().err
    assert main(["compare", str(copy)]) == 0, capsys.readouterr().err
    assert started == [(seeds, [0]), (seeds, [0, 4]), (copy.with_name("moved-seeds"), [0, 1, 2])]


def test_a_shipped_recipe_is_found_by_its_name_and_a_file_of_that_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"demo", "qwen2.5-vl-3b"} <= set(shipped())
    for name, path in shipped().items():
        assert find(name) == path
        assert path.is_file()
    (tmp_path / "general-points").mkdir()  # a folder that is no run is no recipe either
    assert find("general-points") == shipped()["general-points"]
    shutil.copy(tiny_run.RECIPE, tmp_path / "demo")
    assert find("demo") == Path("demo")
    monkeypatch.setattr("curr_reft.recipe_source.__file__", str(tmp_path / "a" / "b" / "c.py"))  # as from a wheel
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    installed = tmp_path / "share" / "curr-reft" / "recipes" / "mine-3b.yaml"
    installed.parent.mkdir(parents=True)
    shutil.copy(tiny_run.RECIPE, installed)
    assert find("mine-3b") == installed
    assert main(["check", "mine-4b", "--no-model"]) == 2
    assert "did you mean mine-3b? shipped are mine-3b" in capsys.readouterr().err
