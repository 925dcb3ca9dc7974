"""Models of a finished run as folders, and on their way to a hub: by the commands, against a hub on this machine."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_run
import yaml
from adapted import load
from resealing import reseal

from curr_reft.cli import main
from curr_reft.export.base import layout, other_files
from curr_reft.policy.load import model_folder

from fake_hub import TOKEN, Hub, running_hub  # isort: skip


@pytest.fixture(scope="module")
def merged(finished: "object", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The final model of the tiny run."""
    out = tmp_path_factory.mktemp("merged") / "my-model"
    assert main(["merge", str(finished.path), "--out", str(out)]) == 0  # type: ignore[attr-defined]
    return out


def test_the_final_model_of_a_run_is_a_whole_folder(finished: "object", merged: Path) -> None:
    run: Path = finished.path  # type: ignore[attr-defined]
    ours, theirs = load(merged).state_dict(), load(run / "model").state_dict()
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    base = Path(model_folder("embedded"))
    assert layout(merged) == layout(base)
    assert {path.name for path in other_files(base)} == {path.name for path in other_files(merged)}
    assert not (merged / "base.json").exists()  # the base's own card, whose hash of weights is no longer true
    settings = json.loads((merged / "config.json").read_text())
    assert "float32" in (settings.get("torch_dtype"), settings.get("dtype"))  # the run's, not the base's


def test_its_card_has_data_stages_seed_and_scores(merged: Path) -> None:
    text = (merged / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "transformers"
    for expected in (
        "# tiny, Curr-ReFT",
        "in this folder are those of Curr-ReFT",
        "| Curr-RL |",
        "| 03-open | open |",
        "| train | detection | 12 |",
        "- seed: 0",
        'from_pretrained(".")',
    ):
        assert expected in text, expected
    assert str(Path.cwd()) not in text


def test_each_model_of_a_run_can_be_named(
    finished: "object", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run: Path = finished.path  # type: ignore[attr-defined]
    folders = {"rl": "baselines/rl", "sft": "baselines/sft", "curr_rl": "stages/03-open", "curr_reft": "self-improve"}
    for name, folder in folders.items():
        assert main(["merge", str(run), "--model", name, "--out", str(tmp_path / name)]) == 0
        ours, theirs = load(tmp_path / name).state_dict(), load(run / folder / "model").state_dict()
        assert all((ours[key] == theirs[key]).all() for key in theirs), name
    assert main(["merge", str(run), "--model", "best", "--out", str(tmp_path / "best")]) == 2
    assert "the models of a run are final, curr_reft, curr_rl, rl, sft" in capsys.readouterr().err
    assert main(["merge", str(run), "--out", str(tmp_path / "rl")]) == 2
    assert "is there already and is not overwritten" in capsys.readouterr().err


def test_a_run_that_is_not_finished_or_was_changed_is_refused(
    finished: "object", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.path, run)  # type: ignore[attr-defined]
    reseal(run / "run.json", state="interrupted")
    assert main(["merge", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "is not finished" in capsys.readouterr().err
    shutil.rmtree(run / "baselines" / "sft")
    assert main(["merge", str(run), "--model", "sft", "--out", str(tmp_path / "out")]) == 2
    assert "published no model sft; published are: curr_reft, curr_rl, rl" in capsys.readouterr().err
    (weights,) = (run / "baselines" / "rl" / "model").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(["merge", str(run), "--model", "rl", "--out", str(tmp_path / "out")]) == 1
    assert "damaged" in capsys.readouterr().err


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


def push(hub: Hub, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command as it is typed, with the hub's client set to our hub and to plain HTTP storage."""
    own = {"HF_ENDPOINT": hub.address, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    return subprocess.run(
        [tiny_run.PROGRAM, "push", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=tiny_run.LIMIT,
        env={**os.environ, **own},
    )


def test_what_is_listed_is_sent_and_nothing_else(hub: Hub, merged: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(merged, folder)
    (folder / "rollouts").mkdir()
    (folder / "rollouts" / "until-000020.parquet").write_bytes(b"PAR1")
    (folder / "optimizer.bin").write_bytes(b"moments")
    (folder / ".env").write_text("SECRET")
    done = push(hub, folder, "--repo", "someone/my-model", "--private")
    assert done.returncode == 0, done.stderr
    assert set(hub.files) - {".gitattributes"} == {path.name for path in merged.iterdir()}
    for name, content in hub.files.items():
        assert content == (folder / name).read_bytes(), name
        assert f"  {name}\n" in done.stdout
    assert "not sent: .env, optimizer.bin, rollouts" in done.stdout
    assert done.stdout.index("model.safetensors") < done.stdout.index("sent: http")
    made = hub.repositories["someone/my-model"]
    assert made.get("private") is True or made.get("visibility") == "private"
    assert TOKEN not in done.stdout + done.stderr
    assert {key for _, path, key in hub.asked if path.startswith("/api")} == {f"Bearer {TOKEN}"}


def test_a_run_is_merged_on_its_way_and_a_dry_run_needs_no_token(
    finished: "object", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    run: Path = finished.path  # type: ignore[attr-defined]
    before = sorted(run.parent.iterdir())
    assert main(["push", str(run), "--model", "curr_rl", "--repo", "someone/tiny", "--dry-run"]) == 0
    assert sorted(run.parent.iterdir()) == before  # what was merged for it is gone
    told = capsys.readouterr().out
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        assert f"  {name}\n" in told
    assert "rollouts" not in told
    assert "nothing was sent" in told


def test_the_token_comes_from_the_environment_alone(
    merged: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["push", str(merged), "--repo", "someone/my-model"]) == 2
    assert "HF_TOKEN is not set" in capsys.readouterr().err


def test_a_hub_that_refuses_is_told_without_the_token(hub: Hub, merged: Path) -> None:
    hub.refuses = 403
    done = push(hub, merged, "--repo", "someone/my-model")
    assert done.returncode == 1
    assert "the hub did not take someone/my-model" in done.stderr
    assert "403" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("missing", "message"), [("config.json", "neither a run directory"), ("README.md", "has no model card")]
)
def test_folders_that_are_no_whole_model_are_refused(
    merged: Path, tmp_path: Path, missing: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(merged, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    assert main(["push", str(tmp_path / "model"), "--repo", "someone/my-model", "--dry-run"]) == 2
    assert message in capsys.readouterr().err
