"""A final model that is the base under another name is called so wherever a person looks, and is not uploaded."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
import yaml
from safetensors.torch import load_file, save_file

from curr_reft.cli import main
from curr_reft.policy.load import model_folder
from curr_reft.run_history import Unchanged, unchanged_models
from curr_reft.train.publish import same_weights

SENTENCE = "no stage improved on the base: curr_rl is the base"


@dataclass(frozen=True)
class Flat:
    """A finished run in which training changed nothing, with what it printed."""

    path: Path
    output: str


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Flat:
    """Two stages of one update that is too small for float32; the last step is selected, as the recipe says."""
    folder = tmp_path_factory.mktemp("maker")
    base = folder / "models" / "Base-1M"
    shutil.copytree(model_folder("embedded"), base)
    stages = [{"name": form, "forms": {form: 1}, "steps": 1} for form in ("binary", "open")]
    words = (
        *("--output", folder / "run", "--model.path", base, "--rl.optimizer.lr", "1e-30"),
        *("--checkpoint.hand_on", "last", "--curriculum.stages", json.dumps(stages), "--curriculum.total_steps", "2"),
        *("--evaluation.models", "[base, curr_rl]", "--self_improvement", "null", "--questions.style", "short"),
    )
    log = folder / "log"
    assert tiny_run.run(*map(str, words), log=log) == 0, log.read_text()
    return Flat(folder / "run", log.read_text())


def test_the_console_says_so_at_the_stage_and_at_the_end(flat: Flat) -> None:
    lines = flat.output.splitlines()
    assert lines[-2].endswith(SENTENCE)
    for stage in ("01-binary", "02-open"):
        assert any(line.endswith(f"curr_rl {stage}: training changed no weight") for line in lines)


def test_summary_status_report_and_cards_say_so(flat: Flat, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads((flat.path / "summary.json").read_text())["same_as"] == {"curr_rl": "base"}
    assert main(["status", str(flat.path)]) == 0
    assert f"unchanged  {SENTENCE}" in capsys.readouterr().out
    page = (flat.path / "report.html").read_text()
    first = page.partition('<section id="results">')[2]
    assert first.index("No stage improved on the base: curr_rl is the base.") < first.index("<h3>")
    assert 'class="headline"' not in page  # "Base to Curr-RL" is the headline of a model that was trained
    assert "the weights of Base" in page
    out = tmp_path / "model"
    assert main(["merge", str(flat.path), "--out", str(out)]) == 0
    for card in (flat.path / "README.md", out / "README.md"):
        text = card.read_text()
        assert "**The weights are those of Base-1M.**" in text
        assert "post-trained" not in text
        assert yaml.safe_load(text.split("---")[1])["tags"] == ["curr-reft", "base-weights-unchanged"]


def test_push_asks_for_a_flag(flat: Flat, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model"
    assert main(["merge", str(flat.path), "--out", str(out)]) == 0
    capsys.readouterr()
    for source in (flat.path, out):
        words = ["push", str(source), "--repo", "someone/mine", "--dry-run"]
        assert main(words) == 2
        assert "the model has the weights of its base" in capsys.readouterr().err
        assert main([*words, "--even-unchanged"]) == 0
        assert "nothing was sent" in capsys.readouterr().out


def test_no_path_of_the_disk_is_in_what_others_are_shown(flat: Flat, finished: Any, tmp_path: Path) -> None:
    assert main(["merge", str(flat.path), "--out", str(tmp_path / "model")]) == 0
    shown = [folder / name for folder in (flat.path, finished.path) for name in ("report.html", "README.md")]
    for file in (*shown, tmp_path / "model" / "README.md"):
        text = file.read_text()
        for folder in (flat.path.parent, Path(finished.path).parent, tmp_path, Path.home() / "x"):
            assert str(folder.parent) not in text, file
    assert "path: ../models/Base-1M" in (flat.path / "report.html").read_text()


def stage(run: Path, folder: str, **manifest: Any) -> None:
    (run / folder).mkdir(parents=True)
    (run / folder / "manifest.json").write_text(json.dumps({"weights_sha256": "b", "start_sha256": "a", **manifest}))


KEPT, TRAINED = {"chosen_step": 0}, {"chosen_step": 4}


@pytest.mark.parametrize(
    ("folders", "same_as", "lines"),
    [
        ({"stages/01-a": KEPT, "stages/02-b": KEPT}, {"curr_rl": "base"}, [SENTENCE]),
        ({"stages/01-a": KEPT, "stages/02-b": TRAINED}, {}, []),
        ({"stages/01-a": TRAINED, "stages/02-b": KEPT}, {}, []),
        ({"stages/01-a": {"chosen_step": 4, "start_sha256": "b"}}, {"curr_rl": "base"}, [SENTENCE]),
        ({"stages/01-a": {"chosen_step": 4, "unchanged": True}}, {"curr_rl": "base"}, [SENTENCE]),
        (
            {"stages/01-a": KEPT, "self-improve": KEPT},
            {"curr_rl": "base", "curr_reft": "base"},
            ["no stage improved on the base: curr_rl and curr_reft are the base"],
        ),
        (
            {"stages/01-a": TRAINED, "self-improve": KEPT},
            {"curr_reft": "curr_rl"},
            ["training did not improve on curr_rl: curr_reft is curr_rl"],
        ),
        (
            {"stages/01-a": KEPT, "self-improve": TRAINED},
            {"curr_rl": "base"},
            ["no stage of the curriculum improved on the base: curr_rl is the base"],
        ),
        (
            {"stages/01-a": TRAINED, "baselines/rl": KEPT, "baselines/sft": TRAINED},
            {"rl": "base"},
            ["training did not improve on the base: rl is the base"],
        ),
        (
            {"stages/01-a": TRAINED, "self-improve": TRAINED, "rounds/2/open": KEPT, "rounds/2/self-improve": KEPT},
            {"curr_rl_round_2": "curr_reft", "curr_reft_round_2": "curr_reft"},
            [
                "training did not improve on curr_reft: curr_rl_round_2 is curr_reft",
                "training did not improve on curr_reft: curr_reft_round_2 is curr_reft",
            ],
        ),
    ],
)
def test_models_that_are_another_are_found_in_the_manifests(
    tmp_path: Path, folders: dict[str, dict[str, Any]], same_as: dict[str, str], lines: list[str]
) -> None:
    for folder, manifest in folders.items():
        stage(tmp_path, folder, **manifest)
    found = unchanged_models(tmp_path)
    assert (found.same_as, found.lines()) == (same_as, lines)


def test_a_round_that_kept_nothing_is_the_model_before(tmp_path: Path) -> None:
    stage(tmp_path, "stages/01-a", **KEPT)
    (tmp_path / "self-improve").mkdir()
    (tmp_path / "self-improve" / "account.json").write_text('{"kept": 0}')
    assert unchanged_models(tmp_path).same_as == {"curr_rl": "base", "curr_reft": "base"}
    (tmp_path / "self-improve" / "account.json").write_text('{"kept": 3}')  # it is being trained
    assert unchanged_models(tmp_path) == Unchanged(final="curr_rl", same_as={"curr_rl": "base"})


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda weights: {name: value.float() for name, value in weights.items()}, True),
        (lambda weights: {name: value for name, value in weights.items() if name != min(weights)}, True),
        (lambda weights: {**weights, max(weights): weights[max(weights)] * 1.01}, False),
        (lambda weights: {f"other.{name}": value for name, value in weights.items()}, False),
    ],
)
def test_weights_are_compared_in_float32(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], same: bool
) -> None:
    base = Path(model_folder("embedded"))
    weights = load_file(base / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    save_file(change(weights), tmp_path / "model.safetensors")
    assert same_weights(tmp_path, base) is same


def test_a_run_that_improved_says_nothing(finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same_as = json.loads((finished.path / "summary.json").read_text())["same_as"]
    assert same_as == dict(unchanged_models(finished.path).same_as)
    assert ("no stage improved" in finished.output) is (same_as.get("curr_reft") == "base")
    assert len(re.findall(r"no checkpoint is better than its start \(step 0\)", finished.output)) == sum(
        json.loads(path.read_text())["chosen_step"] == 0 for path in finished.path.glob("**/manifest.json")
        if "checkpoints" not in path.parts
    )  # fmt: skip
