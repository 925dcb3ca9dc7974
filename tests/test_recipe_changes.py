"""What a resumed run may change: budgets that grow where the result stays that of an unbroken run, nothing else."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from resealing import reseal, reseal_run

from curr_reft.errors import UsageError
from curr_reft.files import read_json
from curr_reft.planned import StepAlone, planned_phases, planned_trainings
from curr_reft.recipe import load_recipe
from curr_reft.recipe_changes import changes, refusals
from curr_reft.run_dir import RunDir

RECIPE = """\
name: tiny
rl: {optimizer: {schedule: constant}}
curriculum:
  total_steps: 20
  stages:
    - {name: one, forms: {binary: 1}, steps: 4}
    - {name: two, forms: {open: 1}, steps: rest}
sft: {steps: 6, optimizer: {schedule: constant}}
self_improvement:
  pools: {math: {queries: 4, quota: 2}}
  judge: {kind: endpoint, endpoint: {base_url: "https://judge.example/v1", model: judge, prices: {input: 1, output: 2}, budget: 3}}
  sft: {steps: 5}
evaluation: {models: [base, sft, curr_rl, curr_reft]}
"""  # noqa: E501
BUDGET = "--self_improvement.judge.endpoint.budget"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_the_trainings_are_those_of_the_walk_with_their_budgets(written: Path) -> None:
    flags = ["--evaluation.models", "[base, sft, rl]", "--self_improvement.rounds", "2"]
    planned = planned_trainings(load_recipe(written, flags))
    assert {training.name: training.budget for training in planned} == {
        "curr_rl/01-one": 4,
        "curr_rl/02-two": 16,
        "rl/rl": 20,
        "sft/sft": 6,
        "self_improvement/self_improvement": 5,
        "curr_rl/round-2-two": 16,
        "self_improvement_round_2/self_improvement_round_2": 5,
    }
    assert {training.read_by for training in planned} == {None, "self_improvement.sft.optimizer.schedule"}


@pytest.mark.parametrize(
    ("flags", "phases"),
    [
        (
            ["--difficulty", "{}", "--evaluation.models", "[base, sft, rl, curr_rl, curr_reft]"],
            "difficulty eval/base curr_rl/01-one curr_rl/02-two rl/rl eval/rl sft/sft eval/sft eval/curr_rl "
            "self_improvement/self_improvement eval/curr_reft",
        ),
        (
            ["--self_improvement.rounds", "2", "--evaluation.models", "[curr_rl]"],
            "curr_rl/01-one curr_rl/02-two eval/curr_rl self_improvement/self_improvement curr_rl/round-2-two "
            "eval/curr_rl_round_2 self_improvement_round_2/self_improvement_round_2",
        ),
        (["--self_improvement", "null", "--evaluation.models", "[base]"], "eval/base curr_rl/01-one curr_rl/02-two"),
    ],
)
def test_the_phases_are_those_of_the_walk(written: Path, flags: list[str], phases: str) -> None:
    assert " ".join(each.name for each in planned_phases(load_recipe(written, flags))) == phases


@pytest.mark.parametrize(
    ("flags", "read_by"),
    [
        (["--rl.optimizer.schedule", "linear"], "rl.optimizer.schedule"),
        (["--rl.optimizer.warmup", "0.1"], "rl.optimizer.warmup"),
        (["--rewards.detection.schedule", "[[0.5, 0.6]]"], "rewards.detection.schedule"),
        (["--rewards.custom", "[{name: mine, call: 'json:dumps'}]"], "rewards.custom"),
        (["--difficulty.order", "easy_to_hard"], "difficulty.order"),
    ],
)
def test_what_reads_the_budget_of_a_stage(written: Path, flags: list[str], read_by: str) -> None:
    assert planned_trainings(load_recipe(written, flags))[0].read_by == read_by


# What is over, and how far the trainings are; what is given; what is said, or None for what may be gone on with.
NEW: dict[str, Any] = {"phases": {}, "steps": {}}
IN_ONE: dict[str, Any] = {"phases": {}, "steps": {"curr_rl/01-one": 2}}
IN_TWO: dict[str, Any] = {"phases": {"curr_rl/01-one": {}}, "steps": {"curr_rl/01-one": 4, "curr_rl/02-two": 3}}
GATED: dict[str, Any] = {"phases": {"curr_rl/01-one": {}}, "steps": {"curr_rl/01-one": 1, "curr_rl/02-two": 17}}
GATED_ENDED: dict[str, Any] = {**GATED, "steps": {"curr_rl/01-one": 1, "curr_rl/02-two": 19}}
ENDED: dict[str, Any] = {"phases": {}, "steps": {"curr_rl/01-one": 4, "curr_rl/02-two": 16}}
LINEAR = ("--rl.optimizer.schedule", "linear")
CASES: tuple[tuple[dict[str, Any], Sequence[str], Sequence[str], str | None], ...] = (
    (NEW, (), ("--curriculum.total_steps", "30"), None),
    (NEW, LINEAR, ("--curriculum.total_steps", "30"), None),  # nothing was trained for the old budget
    (IN_TWO, (), ("--curriculum.total_steps", "30"), None),
    (IN_TWO, LINEAR, ("--curriculum.total_steps", "30"), "02-two: 16 -> 26 updates: 3 updates were made for a budget"),
    (IN_TWO, (), ("--curriculum.total_steps", "19"), "02-two: 16 -> 15 updates: a budget can only grow"),
    (ENDED, (), ("--curriculum.total_steps", "30"), "02-two: 16 -> 26 updates: it is over"),
    (GATED, (), ("--curriculum.total_steps", "30"), None),  # the rest is more than was planned
    (GATED_ENDED, (), ("--curriculum.total_steps", "30"), "02-two: 16 -> 26 updates: it is over"),
    (IN_ONE, (), ("--curriculum.stages.0.steps", "6", "--curriculum.total_steps", "22"), None),
    (IN_ONE, (), ("--curriculum.stages.0.steps", "6"), "02-two: 16 -> 14 updates: a budget can only grow"),
    (IN_TWO, (), ("--curriculum.stages.0.steps", "6", "--curriculum.total_steps", "22"), "01-one: 4 -> 6 .* is over"),
    (IN_ONE, ("--curriculum.schedule", "mixed"), ("--curriculum.total_steps", "30"), None),
    (
        {"phases": {}, "steps": {"curr_rl/01-mixed": 2}},
        ("--curriculum.schedule", "mixed"),
        ("--curriculum.total_steps", "30"),
        "01-mixed: 20 -> 30 updates: 2 updates were made with other shares of the forms",
    ),
    (ENDED, (), ("--sft.steps", "9"), None),
    (ENDED, (), ("--self_improvement.rounds", "2"), None),
    (ENDED, (), ("--evaluation.models", "[base, sft, curr_rl, curr_reft, rl]"), None),
    (ENDED, (), ("--evaluation.models", "[base, sft, curr_rl]"), "evaluation.models: "),
    (ENDED, (), (BUDGET, "4"), None),
    (ENDED, (), (BUDGET, "null"), None),
    (ENDED, (), (BUDGET, "2"), "endpoint.budget: 3.0 -> 2.0"),
    (ENDED, ("--sft", "null", "--evaluation.models", "[base]"), ("--sft", "{steps: 3}"), None),
    (ENDED, (), ("--sft.batch_size", "7"), "sft.batch_size: 32 -> 7"),
    (NEW, (), ("--rl.optimizer.lr", "1e-4", "--curriculum.total_steps", "30"), "rl.optimizer.lr: 1e-06 -> 0.0001"),
    (NEW, (), ("--seed", "1"), "seed: 0 -> 1"),
)


@pytest.mark.parametrize(("done", "made_with", "given", "said"), CASES)
def test_a_budget_may_grow_where_that_is_exact(
    written: Path, done: dict[str, Any], made_with: Sequence[str], given: Sequence[str], said: str | None
) -> None:
    before, now = load_recipe(written, made_with), load_recipe(written, [*made_with, *given])
    assert changes(before, before) == []
    assert changes(before, now)
    found = refusals(before, now, **done)
    if said is None:
        assert found == []
    else:
        assert any(re.search(said, line) for line in found), found


def test_keys_of_a_later_version_have_their_defaults(tmp_path: Path, written: Path) -> None:
    path, recipe = tmp_path / "run", load_recipe(written)
    RunDir.open(path, recipe).close()
    stored = (path / "recipe.yaml").read_text()
    older = re.sub(r"(?m)^  keep_last: .*\n|^difficulty: .*\n", "", stored)
    assert len(older.splitlines()) == len(stored.splitlines()) - 2
    (path / "recipe.yaml").write_text(older)
    reseal_run(path)
    RunDir.require_free(path, recipe, resume=True)
    other = load_recipe(written, ["--checkpoint.keep_last", "3"])
    with pytest.raises(UsageError, match=r"checkpoint\.keep_last: 2 -> 3"):
        RunDir.open(path, other, resume=True)
    assert (path / "recipe.yaml").read_text() == older
    RunDir.open(path, recipe, resume=True).close()
    assert (path / "recipe.yaml").read_text() == stored  # a later default must not slip in
    (path / "recipe.yaml").write_text(stored + "of_a_later_version: 1\n")
    reseal_run(path)
    with pytest.raises(UsageError, match="unknown key"):
        RunDir.open(path, recipe, resume=True)


def test_a_finished_run_whose_budget_grew_is_gone_on_with(tmp_path: Path, written: Path) -> None:
    path = tmp_path / "run"
    with RunDir.open(path, load_recipe(written)) as run:
        run.mark_done("curr_rl/01-one", {})
        run.mark_done("report", {})
        run.set_state("done")
    more = load_recipe(written, ["--self_improvement.rounds", "2"])
    before = {each.name: each.read_bytes() for each in path.iterdir()}
    RunDir.require_free(path, more, resume=True)
    with pytest.raises(UsageError, match="is the directory of a whole run"):
        RunDir.open(path, more, resume=True, alone=StepAlone(command="sft", trainings={"curr_rl/01-one": 4}))
    assert {each.name: each.read_bytes() for each in path.iterdir()} == before
    with RunDir.open(path, more, resume=True) as run:
        assert not run.finished
        assert list(run.run["phases"]) == ["curr_rl/01-one"]
    (path / "recipe.yaml").write_bytes(before["recipe.yaml"])  # killed before the new one was stored
    reseal(path / "run.json", files={})
    RunDir.open(path, more, resume=True).close()
    record = read_json(path / "run.json")
    assert [entry["changes"] for entry in record["extended"]] == [["self_improvement.rounds: 1 -> 2"]]
    assert load_recipe(path / "recipe.yaml") == more
    assert record["recipe_sha256"] != json.loads(before["run.json"])["recipe_sha256"]


def test_no_budget_grows_where_nobody_knows_how_far_the_training_is(tmp_path: Path, written: Path) -> None:
    path = tmp_path / "run"
    RunDir.open(path, load_recipe(written)).close()
    (path / "stages" / "01-one" / "checkpoints" / "step-000002").mkdir(parents=True)
    more = load_recipe(written, ["--self_improvement.rounds", "2"])
    with pytest.raises(UsageError, match=r"metrics\.jsonl is not there.*put the file back"):
        RunDir.open(path, more, resume=True)
    RunDir.open(path, load_recipe(written), resume=True).close()
    (path / "metrics.jsonl").touch()
    RunDir.open(path, more, resume=True).close()
