"""T8: a stage starts from what the one before published, bit for bit, or not at all.

The damage is done between two stages of a real run: before it is resumed, or while it works.
"""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dying
import exact_runs
import pytest
import tiny_run
from resealing import reseal, reseal_run

from curr_reft.integrity import file_entry
from curr_reft.train.publish import publish, read_published

Unbroken = Callable[[str], exact_runs.Unbroken]
FLAGS = ("--resume", *exact_runs.SETTINGS)
FIRST, SECOND = exact_runs.FIRST, exact_runs.SECOND


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def resume(run: Path, folder: Path, moment: dying.Moment | None = None) -> tuple[int, str]:
    log = folder / "log"
    code = dying.end(*FLAGS, run=run, log=log, journal=folder / "journal", moment=moment)
    return code, log.read_text()


def no_manifest(stage: Path) -> None:
    (stage / "manifest.json").unlink()


def set_aside(stage: Path) -> None:
    """A kill between the two renames of publishing once more."""
    no_manifest(stage)
    (stage / "model").rename(stage / ".old-model")


def half_moved(stage: Path) -> None:
    """As a copy to another disk leaves it that was cut off: the model half there, the manifest not yet."""
    no_manifest(stage)
    shutil.copytree(stage / "model", stage / ".tmp-model-77")
    (stage / "model" / "model.safetensors").unlink()


@pytest.mark.parametrize(
    "undo", [no_manifest, *(pytest.param(each, marks=pytest.mark.slow) for each in (set_aside, half_moved))]
)
def test_what_is_not_published_is_published_again_and_then_started_from(
    unbroken: Unbroken, tmp_path: Path, undo: Callable[[Path], None]
) -> None:
    """Watched up to the first step of the second stage; that the rest follows from there is T1."""
    whole, run = unbroken("settings"), tmp_path / "run"
    exact_runs.between_stages(whole.path, run)
    undo(run / FIRST)
    step = f"{SECOND / 'checkpoints'}/step-000001"
    code, said = resume(run, tmp_path, dying.at_save(str(SECOND / "checkpoints"), "step-000001"))
    assert code == -signal.SIGKILL, said
    state = read(run / step / "state.json")
    assert state["start_sha256"] == read(run / FIRST / "manifest.json")["weights_sha256"]
    assert set(tiny_run.files(run / FIRST)) == set(tiny_run.files(whole.path / FIRST))
    assert dying.saves(tmp_path / "journal") == [save for save in whole.saves if str(SECOND) in save.path][:2]


def other_weights(stage: Path) -> None:
    dying.flip_a_bit(stage / "model" / "model.safetensors")


def no_weights(stage: Path) -> None:
    (stage / "model" / "model.safetensors").unlink()


def other_settings(stage: Path) -> None:
    path = stage / "model" / "config.json"
    path.write_text(path.read_text() + "\n")


def no_model(stage: Path) -> None:
    (stage / "model").rename(stage / "model-of-yesterday")


def other_promise(stage: Path) -> None:
    """A manifest whose hash of the weights is not that of the files it lists."""
    path = stage / "manifest.json"
    path.write_text(json.dumps({**read(path), "weights_sha256": "0" * 64}))


def cut_manifest(stage: Path) -> None:
    path = stage / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


DAMAGES = {
    other_weights: "model.safetensors",
    no_weights: "model.safetensors",
    other_settings: "config.json",
    no_model: "model",
    other_promise: "manifest.json",
    cut_manifest: "manifest.json",
}


@pytest.mark.parametrize(
    "damage", [each if each is other_weights else pytest.param(each, marks=pytest.mark.slow) for each in DAMAGES]
)
def test_no_stage_starts_from_what_is_not_as_its_manifest_says(
    unbroken: Unbroken, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run = tmp_path / "run"
    exact_runs.between_stages(unbroken("settings").path, run)
    damage(run / FIRST)
    code, said = resume(run, tmp_path)
    by_record = DAMAGES[damage] == "manifest.json"  # run.json knows its hash, and is asked before anything is done
    assert code == (2 if by_record else 1)
    assert str(run / FIRST / DAMAGES[damage]) in said or str(run / FIRST / "model" / DAMAGES[damage]) in said
    assert ("remove it and repeat the command" if by_record else f"remove {run / FIRST} and resume") in said
    assert "Traceback" not in said
    assert not (run / SECOND).exists()


def test_a_stage_that_came_from_another_one_is_not_taken_for_its_successor(unbroken: Unbroken, tmp_path: Path) -> None:
    """The first stage was published once more, whole and with other weights; the second is there already."""
    run = tmp_path / "run"
    exact_runs.back_to(unbroken("settings").path, run)
    before = read_published(run / FIRST)
    assert before is not None

    def save(model: Path) -> None:
        shutil.copytree(before.model, model, dirs_exist_ok=True)
        dying.flip_a_bit(model / "model.safetensors")

    now = publish(run / FIRST, save, before.record)
    reseal_run(run)
    code, said = resume(run, tmp_path)
    assert code == 1
    assert f"{run / SECOND} was trained from weights {before.weights_sha256}" in said
    assert f"its start now has {now.weights_sha256}" in said


@pytest.mark.slow
def test_the_way_out_of_the_message_ends_where_an_unbroken_run_ends(unbroken: Unbroken, tmp_path: Path) -> None:
    whole, run = unbroken("settings").path, tmp_path / "run"
    exact_runs.between_stages(whole, run)
    other_weights(run / FIRST)
    assert resume(run, tmp_path)[0] == 1
    shutil.rmtree(run / FIRST)
    code, said = resume(run, tmp_path)
    assert code == 0, said
    tiny_run.assert_same(run, whole)


def test_weights_that_change_while_the_run_works_are_not_started_from(unbroken: Unbroken, tmp_path: Path) -> None:
    """They were as published when the run looked; marking the stage done, it opens metrics.jsonl, as it did twice when
    it began: to verify it, and to go on from its end."""
    run, weights = tmp_path / "run", FIRST / "model" / "model.safetensors"
    exact_runs.back_to(unbroken("settings").path, run, "curr_rl/01-easy")
    shutil.rmtree(run / SECOND)
    code, said = resume(run, tmp_path, dying.Moment(path="metrics.jsonl", number=3, hurt=str(weights)))
    assert code == 1
    assert f"the weights in {run / FIRST / 'model'} changed while the run worked" in said
    assert not list(run.glob("stages/02-both/checkpoints/*"))


def test_weights_that_change_while_the_run_works_are_not_scored(unbroken: Unbroken, tmp_path: Path) -> None:
    """What they score would go down as the scores of what was published."""
    run, weights = tmp_path / "run", SECOND / "model" / "model.safetensors"
    exact_runs.back_to(unbroken("settings").path, run, "curr_rl/02-both", "eval/curr_rl")
    for path in (run / "eval").glob("curr_rl*"):
        path.unlink()
    code, said = resume(run, tmp_path, dying.Moment(path="metrics.jsonl", number=3, hurt=str(weights)))
    assert code == 1
    assert f"the weights in {run / SECOND / 'model'} changed while the run worked" in said
    assert not (run / "eval" / "curr_rl.json").exists()


def test_weights_that_change_while_the_run_works_are_not_handed_out(unbroken: Unbroken, tmp_path: Path) -> None:
    """The final model is a copy of the last one published."""
    run, weights = tmp_path / "run", SECOND / "model" / "model.safetensors"
    exact_runs.back_to(unbroken("settings").path, run, "eval/curr_rl")
    code, said = resume(run, tmp_path, dying.Moment(path="metrics.jsonl", number=3, hurt=str(weights)))
    assert code == 1
    assert str(run / SECOND / "model") in said
    assert not (run / "model").exists()


def test_kept_answers_that_change_between_two_kills_are_not_gone_on_with(finished: Any, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    exact_runs.back_to(finished.path, run, "self_improvement/self_improvement", "eval/curr_reft")
    for name in ("model", "checkpoints"):
        shutil.rmtree(run / "self-improve" / name)
    (run / "self-improve" / "manifest.json").unlink()
    kept = run / "self-improve" / "kept.jsonl"
    rows = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(rows[1:]))
    assert tiny_run.run("--output", run, "--resume", log=log) == 2, log.read_text()
    assert f"{kept} has {kept.stat().st_size} bytes, its record says" in log.read_text()
    account = kept.with_name("account.json")  # whoever makes the record fit too meets the hash the training began with
    reseal(account, files=json.loads(account.read_text())["files"] | {kept.name: file_entry(kept)})
    reseal_run(run)
    assert tiny_run.run("--output", run, "--resume", log=log) == 2, log.read_text()
    assert f"the kept answers ({kept}) changed since this run began" in log.read_text()
    assert not (run / "self-improve" / "model").exists()
    kept.write_text("".join(rows))
    shutil.copy(finished.path / "self-improve" / account.name, account)
    reseal_run(run)
    assert tiny_run.run("--output", run, "--resume", log=log) == 0, log.read_text()
    weights = Path("self-improve", "model", "model.safetensors")
    assert (run / weights).read_bytes() == (finished.path / weights).read_bytes()
    assert tiny_run.untimed_summary(run) == tiny_run.untimed_summary(finished.path)
