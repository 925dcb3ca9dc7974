"""T3: kill -9 at many moments: every resume goes on unaided and ends where an unbroken run ends."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dying
import exact_runs
import pytest
import tiny_run

from curr_reft.recipe import load_recipe
from curr_reft.run_dir import RunDir

# In the order of a run.
MOMENTS = {
    "before anything was trained": dying.Moment(there="data/card.json"),
    "a stage before its first save after a step": dying.Moment(
        there="stages/01-binary/checkpoints/step-000000", path="metrics.jsonl", number=2
    ),
    "a model about to be put into its place": dying.Moment(
        operation="os.rename", path="stages/02-choice/.tmp-model-*[0-9]"
    ),
    "a model in its place, its manifest not yet": dying.Moment(path="stages/02-choice/.manifest.json.*"),
    "published, its checkpoints with their optimizers": dying.Moment(
        there="stages/02-choice/manifest.json", path="stages/02-choice/checkpoints/*"
    ),
    "a stage's first save, its weights written": dying.Moment(
        path="stages/03-open/checkpoints/*step-000000*/.state.json.*"
    ),
    "a save in its place, the older one half removed": dying.Moment(
        there="stages/03-open/checkpoints/step-000003", path="stages/03-open/checkpoints/.tmp-old-*"
    ),
    "a baseline, a step after a save": dying.Moment(
        there="baselines/rl/checkpoints/step-000004", path="metrics.jsonl", number=2
    ),
    "sampling": dying.Moment(path="self-improve/candidates/.part-*"),
    "fine-tuning": dying.Moment(there="self-improve/checkpoints/step-000000", path="metrics.jsonl", number=2),
    "evaluation": dying.Moment(there="eval/curr_reft.predictions.jsonl"),
    "the end": dying.Moment(there="summary.json"),
}


def assert_untroubled(log: Path) -> None:
    """A kill damages nothing: a save that it cuts off was never there."""
    said = log.read_text()
    assert "Traceback" not in said
    assert "damaged" not in said


def test_a_run_killed_at_many_moments_ends_where_an_unbroken_one_ends(finished: Any, tmp_path: Path) -> None:
    run, log, journal = tmp_path / "run", tmp_path / "log", tmp_path / "journal"
    for moment in MOMENTS.values():
        dying.killed("--resume", run=run, log=log, journal=journal, moment=moment)
        state = json.loads((run / "run.json").read_text())["state"]
        # The report says that the run is done, so that stands there before the report is written.
        assert state in {"running", "done"}
    assert dying.end("--resume", run=run, log=log, journal=journal) == 0, log.read_text()
    assert_untroubled(log)
    tiny_run.assert_same(run, finished.path)
    record = json.loads((run / "run.json").read_text())
    assert record["state"] == "done"
    assert len(record["resumed"]) == len(MOMENTS) >= 10
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


KILLS = 70


def a_moment(rng: random.Random) -> dying.Moment | None:
    """Anywhere, inside a save, or inside a hand-over: before some operation on a file. None: by the clock."""
    return rng.choice(
        [
            None,
            dying.Moment(number=rng.randint(1, 500)),
            dying.Moment(path="*checkpoints/*", number=rng.randint(1, 60)),
            dying.Moment(path="*/.tmp-model-*", number=rng.randint(1, 30)),
            dying.Moment(path="*/manifest.json", number=rng.randint(1, 12)),
        ]
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_seventy_kills_at_random_moments(
    unbroken: Callable[[str], exact_runs.Unbroken], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """One run after the other, with all weights trained, with an adapter, with all settings; each is resumed until it
    is through, and comes to what the unbroken one came to."""
    rng, began = random.Random(0), time.monotonic()
    kills, kinds, number = 0, list(exact_runs.FLAGS), 0
    while kills < KILLS:
        kind, folder = kinds[number % len(kinds)], tmp_path / str(number)
        number += 1
        folder.mkdir()
        run, log, journal, whole = folder / "run", folder / "log", folder / "journal", unbroken(kind)
        code = -signal.SIGKILL
        while code == -signal.SIGKILL:
            moment = a_moment(rng) if kills < KILLS else None
            process = dying.start("--resume", *exact_runs.FLAGS[kind], run=run, log=log, journal=journal, moment=moment)
            if moment is None and kills < KILLS:
                process.join(rng.uniform(0.1, 4.0))
                process.kill()
            code = tiny_run.wait(process)
            kills += code == -signal.SIGKILL
        assert code == 0, log.read_text()
        assert_untroubled(log)
        tiny_run.assert_same(run, whole.path)
        found = [save.path for save in dying.saves(journal)]
        assert len(found) == len(set(found))  # what was saved is not done again
        assert set(dying.saves(journal)) <= set(whole.saves)  # a kill may come before a save is written down
    record_property("kills", kills)
    print(f"{kills} kills, {number} runs, {time.monotonic() - began:.0f} s")
