"""Run directories that an earlier version made, opened by this one (tests/fixtures/runs/README.md)."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft.cli import main
from curr_reft.status import read_status

KEPT = Path(__file__).parent / "fixtures" / "runs"
RECIPE = KEPT / "recipe.yaml"
STAGE = Path("stages", "01-mixed")


@pytest.fixture
def copy(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return Path(shutil.copytree(KEPT / request.param, tmp_path / "run"))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def shape(value: Any) -> Any:
    """The keys of nested records, without what they hold."""
    return {key: shape(each) for key, each in value.items()} if isinstance(value, dict) else None


def holds(ours: Any, theirs: Any) -> bool:
    """Whether every key of ``theirs`` is in ``ours``."""
    return theirs is None or all(key in ours and holds(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("copy", ["finished"], indirect=True)
def test_a_finished_run_can_be_looked_at(copy: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["status", str(copy)]) == 0
    told = capsys.readouterr().out
    assert "done" in told
    assert "nothing, the run is finished" in told
    assert main(["report", str(copy)]) == 0
    page = (copy / "report.html").read_text()
    for name in ("base", "sft", "curr_rl", "curr_reft", "01-mixed"):
        assert name in page
    log = tmp_path / "log"
    assert tiny_run.run("--output", copy, "--resume", log=log, command=("run", RECIPE)) == 0, log.read_text()
    assert "this run is finished, nothing is left to do" in log.read_text()
    assert "changed" not in log.read_text()


@pytest.mark.parametrize("copy", ["half-done"], indirect=True)
def test_a_half_done_run_is_resumed_to_its_end(copy: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before, published = tiny_run.rows(copy), read(KEPT / "finished" / "summary.json")
    status = read_status(copy)
    assert (status.state, status.owner, status.phase) == ("interrupted", "none", "curr_rl/01-mixed")
    assert (status.trainings[0].step, status.trainings[0].budget) == (3, 5)
    assert status.last_save is not None
    assert (status.last_save.stage, status.last_save.step) == (STAGE.as_posix(), 3)
    assert main(["report", str(copy)]) == 0
    assert "interrupted" in (copy / "report.html").read_text()

    log = tmp_path / "log"
    assert tiny_run.run("--output", copy, "--resume", log=log, command=("run", RECIPE)) == 0, log.read_text()
    for word in ("damaged", "Traceback", "step 3/5"):
        assert word not in log.read_text()
    rows = tiny_run.rows(copy)
    assert rows[: len(before)] == before  # it went on from step 3, and did not begin again
    steps = [row["step"] for row in rows if (row["stage"], row["kind"]) == ("01-mixed", "train")]
    assert steps == [1, 2, 3, 4, 5]
    record = read(copy / "run.json")
    assert (record["state"], len(record["resumed"])) == ("done", 1)
    assert record["phases"].keys() == read(KEPT / "finished" / "run.json")["phases"].keys()
    manifest = read(copy / STAGE / "manifest.json")
    assert manifest.keys() >= read(KEPT / "finished" / STAGE / "manifest.json").keys()
    # What it came to has the shape of what the earlier version wrote; later ones may add.
    ours = read(copy / "summary.json")
    assert ours.keys() >= published.keys()
    assert holds(shape(ours["evaluation"]), shape(published["evaluation"]))
    # What it had evaluated before was scored again: one summary has intervals of one kind.
    means = [suite["mean"] for model in ours["evaluation"].values() for suite in model.values()]
    assert all("clusters" in mean for mean in [*means, *(model["mean"] for model in ours["general"].values())])

    out = tmp_path / "scores.json"
    assert tiny_run.run("--json", out, log=log, command=("eval", copy / "model", RECIPE)) == 0, log.read_text()
    scores = read(out)
    assert scores["evaluation"] == ours["evaluation"]["curr_reft"]
