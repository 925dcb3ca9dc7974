"""kill -9 at many moments: every resume goes on unaided and ends where an unbroken run ends."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft.recipe import load_recipe
from curr_reft.run_dir import RunDir


def trained(run: Path, stage: str, step: int) -> bool:
    return any(row["stage"] == stage and row["kind"] == "train" and row["step"] == step for row in tiny_run.rows(run))


def saving(run: Path, stage: str) -> bool:
    folder = run / "stages" / stage / "checkpoints"
    return folder.is_dir() and any(name.startswith(".tmp-step-000002") for name in os.listdir(folder))


# Moments in the order of a run. On a machine that stalls, a kill may come so late that the next moment is over too.
LATE = 2
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "before anything was trained": lambda run: (run / "data" / "card.json").exists(),
    "a stage before its first checkpoint after a step": lambda run: trained(run, "01-binary", 1),
    "the second stage's steps": lambda run: trained(run, "02-choice", 2),
    "between publishing and the next stage": lambda run: (run / "stages" / "02-choice" / "manifest.json").exists(),
    "a checkpoint's save": lambda run: saving(run, "03-open"),
    "a baseline": lambda run: trained(run, "rl", 5),
    "evaluation": lambda run: (run / "eval" / "sft.predictions.jsonl").exists(),
    "sampling": lambda run: (run / "self-improve").exists(),
    "fine-tuning": lambda run: trained(run, "self_improvement", 1),
    "the last evaluation": lambda run: (run / "self-improve" / "manifest.json").exists(),
    "the end": lambda run: (run / "summary.json").exists(),
}


def test_a_run_killed_at_many_moments_ends_where_an_unbroken_one_ends(finished: Any, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    kills = 0
    for name, seen in MOMENTS.items():
        if seen(run):
            continue
        kills += 1
        process = tiny_run.start("--output", run, "--resume", log=log)
        code = tiny_run.end_when(process, lambda seen=seen: seen(run))  # type: ignore[misc]
        assert code == -signal.SIGKILL, f"{name}: {log.read_text()}"
        state = json.loads((run / "run.json").read_text())["state"]
        # The report says that the run is done, so that stands there before the report is written.
        assert state in {"running", "done"}
    assert tiny_run.run("--output", run, "--resume", log=log) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    tiny_run.assert_same(run, finished.path)
    record = json.loads((run / "run.json").read_text())
    assert record["state"] == "done"
    assert len(record["resumed"]) == kills >= len(MOMENTS) - LATE
    # What killed processes had done up to their last checkpoint counts as time of the run.
    assert json.loads((run / "summary.json").read_text())["seconds"] >= record["phases"]["curr_rl/01-binary"]["seconds"]


def test_what_cut_off_writes_left_goes_with_the_next_resume(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(tmp_path / "run")])
    RunDir.open(recipe.output, recipe).close()
    for name in (
        ".run.json.77.tmp",
        "eval/.base.json.77.tmp",
        "stages/01-binary/rollouts/.until-000002.parquet.77.tmp",
    ):
        (recipe.output / name).parent.mkdir(parents=True, exist_ok=True)
        (recipe.output / name).write_text("{")
    RunDir.open(recipe.output, recipe, resume=True).close()
    assert set(tiny_run.files(recipe.output)) == {".lock", "run.json", "recipe.yaml"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(2))
def test_kills_at_random_moments(finished: Any, tmp_path: Path, seed: int) -> None:
    """Twenty kills a run, each after a random share of a second to four of work."""
    rng = random.Random(seed)
    run, log = tmp_path / "run", tmp_path / "log"
    kills = 0
    while kills < 20:
        process = tiny_run.start("--output", run, "--resume", log=log)
        time.sleep(rng.uniform(0.1, 4.0) if kills < 19 else 0.3)
        if not process.is_alive():
            assert process.exitcode == 0, log.read_text()
            tiny_run.assert_same(run, finished.path)
            run = tmp_path / f"run-{kills}"  # it was through: the next kills meet a new run
            continue
        process.kill()
        tiny_run.wait(process)
        kills += 1
    assert tiny_run.run("--output", run, "--resume", log=log) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    tiny_run.assert_same(run, finished.path)
