"""T12: a custom reward that misbehaves now and then is counted; one that does so often stops the run by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import many
import pytest
import tiny_run

from curr_reft.errors import TrainingError
from curr_reft.rewards.config import CustomRewardConfig, RewardsConfig
from curr_reft.train.losses import group_advantages
from curr_reft.train.reward_faults import SHARE, WINDOW, RewardFaults

FLAGS = (*many.SHORT, "--curriculum.total_steps", "3", "--checkpoint.every", "10")
STEPS, COMPLETIONS = 3, 12

SOURCE = """
calls = []

def some(completions, **columns):
    calls.append(0)
    bad = {1: float("nan"), 2: "text", 3: float("inf")}[len(calls)]
    return [bad if place == len(calls) else float(place % 3) for place in range(len(completions))]

def short(completions, **columns):
    return [1.0]

def raises(completions, **columns):
    raise RuntimeError("a fault of mine")
"""


def custom(tmp_path: Path, name: str, **more: Any) -> list[str | Path]:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    weight = more.get("weight", 1.0)
    return ["--rewards.custom", f"[{{name: {name}, call: '{path}:{name}', weight: {weight}}}]"]


def test_a_few_failures_cost_those_completions_their_score_and_are_counted(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert tiny_run.run("--output", run, *FLAGS, *custom(tmp_path, "some"), log=log) == 0, log.read_text()
    steps = [row for row in tiny_run.rows(run) if row["kind"] == "train"]
    assert [row["parts"]["some"]["failed"] for row in steps] == [1] * STEPS
    assert [row["parts"]["some"]["n"] for row in steps] == [COMPLETIONS - 1] * STEPS
    assert [row["statuses"]["grader_failed"] for row in steps] == [1] * STEPS
    from curr_reft.parquet import read_rows

    rows = [row for path in sorted((run / "stages").rglob("*.parquet")) for row in read_rows(path)]
    assert len(rows) == STEPS * COMPLETIONS
    without = [place for place, row in enumerate(rows) if row["reward"] is None]
    assert without == [1, 12 + 2, 24 + 3]
    for start in range(0, len(rows), 4):
        group = rows[start : start + 4]
        assert [row["advantage"] for row in group] == pytest.approx(group_advantages([row["reward"] for row in group]))


@pytest.mark.parametrize("name", ["raises", pytest.param("short", marks=pytest.mark.slow)])
def test_a_reward_that_always_fails_stops_the_run_by_name(tmp_path: Path, name: str) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert tiny_run.run("--output", run, *FLAGS, *custom(tmp_path, name), log=log) == 1
    assert f"step 2: reward {name} ({tmp_path / 'mine.py'}:{name}) broke down for 24 of the 24" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert max(row["step"] for row in tiny_run.rows(run)) == 1


def counted(weight: float = 1.0) -> Callable[[RewardFaults | None], RewardFaults]:
    config = RewardsConfig(custom=(CustomRewardConfig(name="mine", call="mine.py:mine", weight=weight),))

    def make(before: RewardFaults | None = None) -> RewardFaults:
        faults = RewardFaults(config)
        if before is not None:
            faults.load_state_dict(before.state_dict())
        return faults

    return make


def test_the_share_is_that_of_the_window_and_goes_on_after_a_resume() -> None:
    make = counted()
    faults = make(None)
    for step in range(1, 3 * WINDOW):  # exactly the share, for ever
        faults.count(step, {"mine": {"failed": SHARE * 100}}, 100)
        faults = make(faults)
    with pytest.raises(TrainingError, match=r"reward mine \(mine.py:mine\) broke down for 101 of the 2000"):
        faults.count(3 * WINDOW, {"mine": {"failed": SHARE * 100 + 1}}, 100)


def test_what_is_only_logged_stops_nothing() -> None:
    faults = counted(weight=0.0)(None)
    for step in range(1, WINDOW):
        faults.count(step, {"mine": {"failed": 100}}, 100)
    assert faults.state_dict() == {}
