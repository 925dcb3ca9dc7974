"""T12: a custom reward that misbehaves now and then is counted; one that does so often stops the run by name."""

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import many
import pytest
import tiny_run

from curr_reft.data.item import Item
from curr_reft.errors import RecipeError, TrainingError
from curr_reft.parquet import read_rows
from curr_reft.policy.types import Group
from curr_reft.questions.question import Question
from curr_reft.rewards.config import CustomRewardConfig, RewardsConfig
from curr_reft.rewards.grade import Status
from curr_reft.rewards.grading import grade_all
from curr_reft.status import read_status
from curr_reft.tasks import TASKS
from curr_reft.tasks.base import Pool
from curr_reft.tasks.user import use_tasks
from curr_reft.train.graded import GradedGroup
from curr_reft.train.losses import group_advantages
from curr_reft.train.reward_faults import SHARE, WINDOW, RewardFaults

FLAGS = (*many.SHORT, "--checkpoint.every", "50", "--rl.prompts_per_step", "5", "--evaluation.profile.samples", "1")
COMPLETIONS = 20  # of a step: five groups of four

# Each kind of fault comes in every fifth step, to one completion (and its equals) of the step's 20: that is 1 %.
KINDS = ("raises", "wrong length", "nan", "inf", "text")
SOURCE = """
def faulty(kind, first, every=5):
    at_fault = {}

    def reward(completions, id, trainer_state):
        step = trainer_state.global_step
        rows = [(its, completion[0]["content"]) for its, completion in zip(id, completions)]
        if step % every == first:
            at_fault.setdefault(step, rows[step % len(rows)])  # the first call of a step is for all its completions
        bad = [row == at_fault.get(step) for row in rows]
        if kind == "raises" and any(bad):
            raise RuntimeError("a fault of mine")
        value = {"nan": float("nan"), "inf": float("-inf"), "text": "1.0"}.get(kind)
        values = [value if its else len(text) % 3 for (_, text), its in zip(rows, bad)]
        return [each for each, its in zip(values, bad) if not (its and kind == "wrong length")]

    return reward

def raises(completions, **columns):
    raise RuntimeError("a fault of mine")

def short(completions, **columns):
    return [1.0]

def hangs(completions, **columns):
    while True:
        pass
"""


def custom(tmp_path: Path, *rewards: dict[str, Any]) -> list[str | Path]:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return ["--rewards.custom", json.dumps([{**each, "call": f"{path}:{each['call']}"} for each in rewards])]


def test_one_percent_of_every_fault_costs_just_those_completions_their_score(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    rewards = [
        {"name": kind.replace(" ", "_"), "call": "faulty", "options": {"kind": kind, "first": first}}
        for first, kind in enumerate(KINDS)
    ]
    flags = [*FLAGS, "--curriculum.total_steps", str(WINDOW), *custom(tmp_path, *rewards)]
    assert tiny_run.run("--output", run, *flags, log=log) == 0, log.read_text()
    rows = [row for path in sorted((run / "stages").rglob("*.parquet")) for row in read_rows(path)]
    assert len(rows) == WINDOW * COMPLETIONS
    counted = [row for row in tiny_run.rows(run) if row["kind"] == "train"]
    injected = 0
    for step, metrics in enumerate(counted):
        here = rows[step * COMPLETIONS :][:COMPLETIONS]
        chosen = here[step % COMPLETIONS]
        bad = [(row["question"], row["completion"]) == (chosen["question"], chosen["completion"]) for row in here]
        injected += sum(bad)
        at_fault = rewards[step % len(KINDS)]["name"]
        assert {name: part["failed"] for name, part in metrics["parts"].items() if part["failed"]} == {
            at_fault: sum(bad)
        }
        assert metrics["parts"][at_fault]["n"] == COMPLETIONS - sum(bad)
        assert metrics["statuses"]["grader_failed"] == sum(bad)
        for row, its in zip(here, bad, strict=True):
            paid = [row["parts"][each["name"]] for each in rewards]
            assert [value for value in paid if value is not None] == [len(row["completion"]) % 3] * (len(KINDS) - its)
            assert (row["reward"] is None) is its
        for start in range(0, COMPLETIONS, 4):
            group = here[start : start + 4]
            advantages = group_advantages([row["reward"] for row in group])
            assert [row["advantage"] for row in group] == pytest.approx(advantages)
    assert WINDOW <= injected < 0.1 * len(rows)
    faults = read_status(run).faults
    assert (faults.failed_gradings, faults.failed_rewards, faults.timed_out_gradings) == (injected, injected, 0)


DISTURBING = """
import os, random
import numpy as np
import torch

def quiet(completions, **columns):
    return [float(len(completion[0]["content"]) % 3) for completion in completions]

def disturbs(completions, truth, options, completion_ids, **columns):
    values = quiet(completions)
    random.seed(7), np.random.seed(7), torch.manual_seed(7), torch.rand(3), random.random(), np.random.rand()
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(2)
    np.seterr(all="raise")
    os.chdir("/")
    os.close(os.open(os.devnull, os.O_RDONLY))
    for number in range(10_000):
        print(number)
    for column in (completions, truth, options, completion_ids, *columns.values()):
        if isinstance(column, list):
            column.reverse()
            column.clear()
    return values

def closes(completions, **columns):
    os.closerange(3, 256)
    return [1.0] * len(completions)

def closes_output(completions, **columns):
    os.close(1)
    return [1.0] * len(completions)
"""


def disturbing(tmp_path: Path, call: str) -> list[str]:
    path = tmp_path / "disturbing.py"
    path.write_text(DISTURBING)
    return ["--rewards.custom", json.dumps([{"name": "mine", "call": f"{path}:{call}"}])]


def test_a_reward_that_disturbs_the_process_changes_no_number_of_the_run(tmp_path: Path) -> None:
    """S10. With dropout, which draws from torch's own generator after the rewards of a step."""
    lora = ("--model.lora", "{rank: 2, alpha: 4, dropout: 0.3}")
    for name in ("quiet", "disturbs"):
        flags = [*FLAGS, *lora, "--curriculum.total_steps", "3", *disturbing(tmp_path, name)]
        log = tmp_path / f"{name}.log"
        assert tiny_run.run("--output", tmp_path / name, *flags, log=log) == 0, log.read_text()
    rows = [tiny_run.untimed_rows(tmp_path / name) for name in ("quiet", "disturbs")]
    assert rows[0] == rows[1]
    assert (
        tiny_run.untimed_summary(tmp_path / "quiet")["evaluation"]
        == (tiny_run.untimed_summary(tmp_path / "disturbs")["evaluation"])
    )
    assert "lines more, which are not shown" in log.read_text()


@pytest.mark.parametrize("name", ["closes", "closes_output"])
def test_a_reward_that_closes_what_the_run_needs_ends_it_by_name(tmp_path: Path, name: str) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    flags = [*FLAGS, "--curriculum.total_steps", "3", *disturbing(tmp_path, name)]
    assert tiny_run.run("--output", run, *flags, log=log) == 1
    said = log.read_text()
    assert f"reward mine ({tmp_path / 'disturbing.py'}:{name}) closed or replaced" in said
    assert ("the lock" if name == "closes" else "standard output") in said
    assert "Traceback" not in said


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("raises", "short")]


@pytest.mark.parametrize("name", ["hangs", *SLOW])
def test_a_reward_that_always_fails_stops_the_run_by_name(tmp_path: Path, name: str) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    flags = [*FLAGS, "--curriculum.total_steps", "3", *custom(tmp_path, {"name": name, "call": name, "timeout": 0.5})]
    assert tiny_run.run("--output", run, *flags, log=log) == 1
    assert f"step 2: reward {name} ({tmp_path / 'mine.py'}:{name}) broke down for 40 of the 40" in log.read_text()
    assert "Traceback" not in log.read_text()
    (first,) = [row for row in tiny_run.rows(run) if row["kind"] == "train"]
    assert first["statuses"] == {"timed_out" if name == "hangs" else "grader_failed": COMPLETIONS}
    assert first["reward"] is None


@pytest.mark.slow
def test_one_that_fails_above_the_share_stops_the_run_when_that_is_known(tmp_path: Path) -> None:
    """One completion and its equals in every step: 5 % or a little more."""
    run, log = tmp_path / "run", tmp_path / "log"
    often = {"name": "mine", "call": "faulty", "options": {"kind": "raises", "first": 0, "every": 1}}
    flags = [*FLAGS, "--curriculum.total_steps", str(2 * WINDOW), *custom(tmp_path, often)]
    code = tiny_run.run("--output", run, *flags, log=log)
    failed = [row["parts"]["mine"]["failed"] for row in tiny_run.rows(run) if row["kind"] == "train"]
    windows = [sum(failed[max(0, end - WINDOW) : end]) for end in range(1, len(failed) + 1)]
    assert all(each <= SHARE * WINDOW * COMPLETIONS for each in windows)
    assert code == 1, failed  # equals are there, so that it must come to more than 5 %
    assert f"reward mine ({tmp_path / 'mine.py'}:faulty) broke down for " in log.read_text()


TASK = """
from curr_reft.tasks.simple import SimpleTask

class Hangs(SimpleTask):
    name = "hangs"
    timeout = 0.2

    def parse(self, text):
        while "1" in text:
            pass
        return text

    def score(self, answer, truth):
        return float(answer == truth)

    def false_claim(self, truth, rng):
        return truth + "0"

    def distractors(self, truth, rng, n):
        return [truth + "0" * (number + 1) for number in range(n)]
"""


@pytest.fixture
def hanging_task(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "tasks.py").write_text(TASK)
    call = f"{tmp_path / 'tasks.py'}:Hangs"
    use_tasks([call])
    yield call
    use_tasks(())


def test_a_task_that_never_returns_costs_the_answer_its_score_and_then_stops_the_run_by_name(hanging_task: str) -> None:
    question = Question(id="a/open", origin="a", task="hangs", form="open", prompt="", truth="2", source="f:1")
    answers = [(question, f"<think>x</think><answer>{number}</answer>", False) for number in ("2", "1", "3", "11")]
    started = time.monotonic()
    grades = grade_all(answers)
    assert time.monotonic() - started < 4.0
    assert [grade.status for grade in grades] == [Status.OK, Status.TIMED_OUT, Status.OK, Status.TIMED_OUT]
    assert [grade.accuracy for grade in grades] == [1.0, None, 0.0, None]
    said = f"parse of task hangs ({hanging_task}) took longer than its timeout of 0.2 s"
    assert grades[1].reason == said

    group = Group(prompt=None, completions=())
    nothing = (None,) * len(grades)
    graded = GradedGroup(
        question=question, group=group, grades_G=tuple(grades), rewards_G=nothing, advantages_G=nothing
    )
    faults = RewardFaults(RewardsConfig())
    faults.count(1, {}, len(grades), [graded])
    faults.count(2, {}, len(grades), [graded])
    again = RewardFaults(RewardsConfig())
    again.load_state_dict(faults.state_dict())
    with pytest.raises(TrainingError) as stopped:
        again.count(3, {}, len(grades), [graded])
    assert f"step 3: task hangs ({hanging_task}) broke down for 6 of the 12 completions" in str(stopped.value)
    assert f"the last: {said}" in str(stopped.value)


def test_a_row_or_a_claim_that_a_task_hangs_on_is_named(hanging_task: str) -> None:
    with pytest.raises(ValueError, match=r"'31': read_truth of task hangs .* took longer than its timeout of 0.2 s"):
        TASKS["hangs"].read_truth("31")
    item = Item(id="a", task="hangs", question="?", truth="31", source="f:1")
    with pytest.raises(RecipeError, match=r"false_claims of task hangs .*give it more time \(timeout\)"):
        TASKS["hangs"].false_claims(item, Pool(), random.Random(0), 1)


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
