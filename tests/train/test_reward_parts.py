"""The parts of the reward in a step of GRPO: in metrics, in the rollouts that are kept, in the advantages."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curr_reft.curriculum.gate import AccuracyGate, GateConfig
from curr_reft.curriculum.sampler import QuestionSampler
from curr_reft.parquet import read_rows, write_rows
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.load import Policy
from curr_reft.prepare import Prepared
from curr_reft.rewards.config import CustomRewardConfig, LengthConfig, RepetitionConfig, RewardsConfig
from curr_reft.train.config import ObjectiveConfig, RlConfig
from curr_reft.train.grpo import GrpoObjective
from curr_reft.train.losses import group_advantages

SOURCE = """\
def half(completions, log_metric, log_extra, **columns):
    log_metric("seen", len(completions))
    log_extra("place", list(range(len(completions))))
    return [0.25 * (place % 4) for place in range(len(completions))]

def breaks(completions, log_extra, **columns):
    log_extra("odd", [{(1, 2): chr(0xD800)} for _ in completions])
    return [float("nan") if place % 4 == 1 else None if place % 4 == 2 else 1.0 for place in range(len(completions))]
"""


@pytest.fixture
def step(fresh: Callable[..., Policy], prepared: Prepared, tmp_path: Path) -> Callable[..., Any]:
    """Step 1 of a training with these rewards; nothing is replaced: rollouts, grades and functions are real."""
    (tmp_path / "mine.py").write_text(SOURCE)

    def take(*custom: dict[str, Any], **sections: Any) -> Any:
        own = tuple(CustomRewardConfig(call=f"{tmp_path / 'mine.py'}:{each['name']}", **each) for each in custom)
        rl = RlConfig(prompts_per_step=3, objective=ObjectiveConfig(beta=0.0))
        sampling = SamplingConfig(group_size=4, max_new_tokens=8)
        sampler = QuestionSampler({"open": prepared.of("train", "open")}, {"open": 1.0}, 3, seed=1)
        rewards = RewardsConfig(custom=own, **sections)
        return GrpoObjective(fresh(), sampler, rl, sampling, rewards, seed=1, budget=4, reference=None).prepare(1)

    return take


def test_by_default_the_parts_are_format_and_accuracy(step: Any) -> None:
    metrics = step().metrics
    assert set(metrics["parts"]) == {"format", "accuracy"}
    assert metrics["parts"]["format"] == {"mean": metrics["format"], "n": 12, "failed": 0}
    assert metrics["parts"]["accuracy"]["mean"] == metrics["accuracy"]
    assert "logged" not in metrics


def test_each_part_stands_apart_in_metrics_and_rollouts(step: Any, tmp_path: Path) -> None:
    taken = step(
        {"name": "half", "weight": 2.0},
        length=LengthConfig(high=1, margin=10, unit="tokens"),
        repetition=RepetitionConfig(ngram=1),
    )
    parts = taken.metrics["parts"]
    assert list(parts) == ["format", "accuracy", "length", "repetition", "half"]
    assert parts["half"] == {"mean": pytest.approx(0.375), "n": 12, "failed": 0}
    assert -1.0 <= parts["length"]["mean"] < 0.0
    assert taken.metrics["logged"] == {"seen": 12.0}
    write_rows(tmp_path / "rollouts.parquet", taken.records)
    rows = read_rows(tmp_path / "rollouts.parquet")
    for place, row in enumerate(rows):
        weighted = row["parts"]["length"] * 0.1 + row["parts"]["repetition"] * 0.1 + row["parts"]["half"] * 2.0
        assert row["reward"] == pytest.approx(row["format"] + row["accuracy"] + weighted)
        assert row["parts"]["length"] == pytest.approx(-min(row["length"] - 1, 10) / 10)
        assert json.loads(row["logged"]) == {"place": place}
    for start in range(0, 12, 4):
        group = rows[start : start + 4]
        assert [row["advantage"] for row in group] == pytest.approx(group_advantages([row["reward"] for row in group]))


def test_a_reward_that_breaks_down_is_counted_and_costs_its_completions_only(step: Any) -> None:
    taken = step({"name": "breaks"})
    assert taken.metrics["parts"]["breaks"] == {"mean": 1.0, "n": 6, "failed": 3}
    assert taken.metrics["statuses"]["grader_failed"] == 3
    assert [row["reward"] is None for row in taken.records] == [False, True, False, False] * 3
    assert [row["advantage"] is None for row in taken.records] == [False, True, False, False] * 3
    assert all("reward breaks returned a number that is not finite" in row["reason"] for row in taken.records[1::4])
    # What JSON does not hold is logged as Python writes it, and costs nothing.
    assert {row["logged"] for row in taken.records} == {json.dumps({"odd": "{(1, 2): '\\ud800'}"})}
    # The outcome is known all the same: what gates and curves read does not depend on the reward's mishap.
    assert taken.metrics["by_form"]["open"]["n"] == 12
    assert taken.metrics["parts"]["accuracy"]["n"] == 12


def test_a_gate_reads_the_outcome_and_not_the_shaped_reward(step: Any) -> None:
    plain, shaped = step().metrics, step({"name": "half", "weight": 50.0}).metrics
    gates = [AccuracyGate(GateConfig(accuracy=0.5, window=1, min_steps=1), ["open"]) for _ in range(2)]
    for gate, metrics in zip(gates, (plain, shaped), strict=True):
        gate.update(metrics)
    assert shaped["reward"] > 10
    assert gates[0].open() == gates[1].open()
    assert gates[0].state_dict() == gates[1].state_dict()
    assert plain["same_outcome"] == shaped["same_outcome"]
    assert shaped["zero_variance"] == 0.0, "every group differs in the reward"


def test_a_reward_of_trl_pays_a_step_of_ours(step: Any, prepared: Prepared, fresh: Callable[..., Policy]) -> None:
    own = CustomRewardConfig(
        name="overlong", call="trl.rewards:get_soft_overlong_punishment",
        options={"max_completion_len": 8, "soft_punish_cache": 8},
    )  # fmt: skip
    rewards = RewardsConfig(custom=(own,))
    rl = RlConfig(prompts_per_step=3, objective=ObjectiveConfig(beta=0.0))
    sampler = QuestionSampler({"open": prepared.of("train", "open")}, {"open": 1.0}, 3, seed=1)
    sampling = SamplingConfig(group_size=4, max_new_tokens=8)
    taken = GrpoObjective(fresh(), sampler, rl, sampling, rewards, seed=1, budget=4, reference=None).prepare(1)
    for row in taken.records:
        assert row["parts"]["overlong"] == pytest.approx(-row["length"] / 8)
        assert row["reward"] == pytest.approx(row["format"] + row["accuracy"] + row["parts"]["overlong"])
