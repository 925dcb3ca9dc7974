"""Groups that agree in their outcome are replaced: which, by what, how often, and what the step says about it."""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch

from curr_reft.parquet import read_rows
from curr_reft.policy.load import Policy, load_policy
from curr_reft.policy.logprobs import plain_logprobs
from curr_reft.policy.types import Completion, EncodedPrompt, Group
from curr_reft.questions.question import Question
from curr_reft.rewards.custom import Logged
from curr_reft.rewards.grade import Grade, Status
from curr_reft.train.config import CheckpointConfig, OptimizerConfig, ResampleConfig
from curr_reft.train.graded import GradedGroup
from curr_reft.train.grpo import GrpoObjective
from curr_reft.train.loop import Journal, Plan, Validation, train_loop
from curr_reft.train.objective import StepBatch
from curr_reft.train.resample import Round, sample

Fresh = Callable[..., Policy]
Grpo = Callable[..., GrpoObjective]
Babble = Callable[..., None]
G = 4


def grade(accuracy: float | None, format: float = 1.0) -> Grade:
    status = Status.GRADER_FAILED if accuracy is None else Status.OK
    return Grade(status=status, format=format, accuracy=accuracy)


def by_round(*rounds: Sequence[Sequence[float | None]], formats: Sequence[float] = (1, 1, 1, 1)) -> Callable[..., Any]:
    """Grades of a step's rounds, one after the other: the accuracies of each group (then the last round again)."""
    waiting = list(rounds)

    def grades(rows: Sequence[Any], *_: object) -> list[Grade]:
        groups = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        assert len(rows) == G * len(groups)
        return [grade(value, formats[place]) for group in groups for place, value in enumerate(group)]

    return grades


AGREE, DIFFER = (1.0, 1.0, 1.0, 1.0), (0.0, 1.0, 1.0, 1.0)


def trained(step: StepBatch) -> list[Group]:
    return [group for batch in step.micro_batches for group in batch.packed.groups]


def asked(step: StepBatch, number: int) -> list[str]:
    """The questions of a round, in order."""
    return [row["question"] for row in step.records if row["round"] == number][::G]


def test_groups_that_agree_are_replaced_by_others_of_their_form_and_task(
    grpo: Grpo, fresh: Fresh, babble: Babble
) -> None:
    policy = fresh()
    babble(by_round((AGREE, DIFFER, AGREE), (DIFFER, AGREE), (DIFFER,)))
    step = grpo(policy, resample={"rounds": 3}).prepare(1)
    dealt, second, third = (asked(step, number) for number in range(3))
    rows = {row["question"]: row for row in step.records}
    assert [len(dealt), len(second), len(third)] == [3, 2, 1]
    assert len(rows) == 6  # six questions
    for old, new in ((dealt[0], second[0]), (dealt[2], second[1]), (second[1], third[0])):
        assert (rows[old]["task"], rows[old]["form"]) == (rows[new]["task"], rows[new]["form"])
    gone = {dealt[0], dealt[2], second[1]}
    assert all(row["replaced"] == (row["question"] in gone) for row in step.records)
    # What is trained stands in the order of the deal, and is what the rows say.
    texts = {name: [row["completion"] for row in step.records if row["question"] == name] for name in rows}
    expected = [texts[name] for name in (second[0], dealt[1], third[0])]
    assert [[completion.text for completion in group.completions] for group in trained(step)] == expected
    counts = step.metrics["resample"]
    assert {name: counts[name] for name in ("rounds", "sampled", "replaced", "kept", "differ")} == {
        "rounds": 2,
        "sampled": 6,
        "replaced": 3,
        "kept": 3,
        "differ": 3,
    }
    assert counts["accuracy"] == pytest.approx((3 * 1 + 3 * 0.75) / 6)
    assert step.tokens == sum(row["length"] for row in step.records)


def test_what_is_reported_is_what_a_step_without_it_reports(grpo: Grpo, fresh: Fresh, babble: Babble) -> None:
    """Accuracy, and with it the gate, is that of the questions dealt, rolled out with the same random numbers."""
    policy = fresh()
    dealt = (AGREE, DIFFER, (0.0, 0.0, 0.0, 0.0))
    babble(by_round(dealt, (DIFFER, DIFFER)))
    with_it = grpo(policy, resample={}).prepare(1)
    babble(by_round(dealt))
    without = grpo(policy).prepare(1)
    assert {name: value for name, value in with_it.metrics.items() if name != "resample"} == without.metrics
    assert "resample" not in without.metrics
    own = [{k: v for k, v in row.items() if k not in ("round", "replaced")} for row in with_it.records[: 3 * G]]
    assert own == list(without.records)


def test_the_outcome_decides_and_never_the_shaped_sum(grpo: Grpo, fresh: Fresh, babble: Babble) -> None:
    """A group that differs in format alone goes; one whose parts add up to the same reward stays."""
    policy = fresh()
    formats = (1.0, 0.0, 1.0, 1.0)
    babble(by_round((AGREE, (0.0, 1.0, 0.0, 0.0), AGREE), (DIFFER, DIFFER), formats=formats))
    objective = grpo(policy, resample={})
    step = objective.prepare(1)
    assert step.metrics["zero_variance"] == pytest.approx(1 / 3)  # the second's rewards are all 1
    assert [row["replaced"] for row in step.records[::G]] == [True, False, True, False, False]
    assert step.metrics["resample"]["differ"] == 3


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_step_ends_and_goes_on_with_what_it_has(
    grpo: Grpo, fresh: Fresh, random_model: Path, babble: Babble, beta: float
) -> None:
    """Everything agrees: after the last round the step has as many groups as ever, and says that none differs."""
    policy, anchor = fresh(), load_policy(random_model)
    babble(lambda rows, *_: [grade(1.0) for _ in rows])
    reference = (lambda: nullcontext(anchor)) if beta else None
    step = grpo(policy, reference=reference, resample={"rounds": 2}).prepare(1)
    assert [len(asked(step, number)) for number in range(4)] == [3, 3, 3, 0]
    assert [row["replaced"] for row in step.records[::G]] == [True] * 6 + [False] * 3
    assert (step.metrics["resample"]["rounds"], step.metrics["resample"]["differ"]) == (2, 0)
    assert len(trained(step)) == (3 if beta else 0)  # the KL penalty holds for what stays, and for that alone


def test_groups_that_differ_only_by_shaping_still_teach_it_at_the_end(grpo: Grpo, fresh: Fresh, babble: Babble) -> None:
    policy = fresh()
    babble(lambda rows, *_: [grade(0.0, float(place % 2)) for place in range(len(rows))])
    step = grpo(policy, resample={"rounds": 1}).prepare(1)
    assert step.metrics["resample"]["differ"] == 0
    assert len(trained(step)) == 3


def test_no_further_rollout_once_enough_differ(grpo: Grpo, fresh: Fresh, babble: Babble) -> None:
    policy = fresh()
    for enough, rounds in ((0.6, 0), (0.7, 1)):
        babble(by_round((AGREE, DIFFER, DIFFER), (DIFFER,)))
        step = grpo(policy, resample={"enough": enough}).prepare(1)
        assert step.metrics["resample"]["rounds"] == rounds


def test_a_completion_without_a_score_is_no_outcome(grpo: Grpo, fresh: Fresh, babble: Babble) -> None:
    policy = fresh()
    groups = ((1.0, None, 1.0, 1.0), (None, None, None, 0.5), (0.0, None, None, 1.0))
    babble(by_round(groups, ((None,) * 4, DIFFER), (DIFFER,)))
    step = grpo(policy, resample={}).prepare(1)
    assert [row["replaced"] for row in step.records[::G]] == [True, True, False, True, False, False]
    assert step.metrics["statuses"] == {"ok": 6, "grader_failed": 6}
    assert step.metrics["resample"]["statuses"] == {"ok": 14, "grader_failed": 10}
    assert sorted(len(group.completions) for group in trained(step)) == [2, 4, 4]


def test_rounds_have_random_numbers_of_their_own_and_the_same_every_time(
    grpo: Grpo, fresh: Fresh, babble: Babble
) -> None:
    policy = fresh()
    babble(lambda rows, *_: [grade(1.0) for _ in rows])
    found = []
    for _ in range(2):
        objective = grpo(policy, resample={"rounds": 2})
        objective.replacement = lambda question: question  # the very same questions again
        found.append(objective.prepare(1))
    texts = [[row["completion"] for row in found[0].records if row["round"] == number] for number in range(3)]
    assert texts[0] != texts[1] != texts[2] != texts[0]
    assert found[0].records == found[1].records


def test_replacements_were_sampled_by_the_policy_that_is_updated(grpo: Grpo, fresh: Fresh, babble: Babble) -> None:
    """Several updates on one batch measure against the log-probabilities of the rollout, of whatever round."""
    policy = fresh()
    babble(by_round((AGREE, DIFFER, AGREE), (DIFFER, DIFFER)))
    (batch,) = grpo(policy, resample={}, updates_per_batch=2).prepare(1).micro_batches
    with torch.no_grad():
        plain = torch.cat([plain_logprobs(policy, group) for group in batch.packed.groups])
    torch.testing.assert_close(batch.old_logprobs_S, plain, atol=1e-4, rtol=0)


class KilledError(Exception):
    """Stands for a kill."""


def test_resumed_it_draws_the_same_replacements(grpo: Grpo, fresh: Fresh, babble: Babble, tmp_path: Path) -> None:
    """What was replaced depends on what was sampled, so it is in the checkpoint: weights and rows end the same."""
    babble(lambda rows, *_: [grade(float(sum(map(ord, text)) % 4 == 0)) for _, text, _ in rows])  # half agree

    def train(folder: Path, rows: list[Any], stop: int | None = None) -> dict[str, torch.Tensor]:
        policy = fresh()
        objective = grpo(policy, resample={"rounds": 2})

        def log(row: Mapping[str, Any]) -> None:
            rows.append({name: value for name, value in row.items() if name not in ("seconds", "tokens_per_second")})
            if row["kind"] == "train" and row["step"] == stop:
                raise KilledError

        plan = Plan(
            folder=folder,
            budget=4,
            optimizer=OptimizerConfig(lr=1e-3),
            checkpoint=CheckpointConfig(every=2),
            seed=1,
            validate=lambda _: Validation(accuracy=float(len(rows)), score=0.0),  # the last is best
            journal=Journal(log=log, rewind=lambda *_: None, sync=lambda: None),
        )
        try:
            train_loop(policy, objective, plan)
        except KilledError:
            assert stop is not None
        return {name: each.detach().clone() for name, each in policy.model.named_parameters()}

    whole: list[Any] = []
    expected = train(tmp_path / "whole", whole)
    steps = [row for row in whole if row["kind"] == "train"]
    assert sum(row["resample"]["replaced"] for row in steps[:2]) > 0  # before the checkpoint
    rows: list[Any] = []
    train(tmp_path / "killed", rows, stop=3)
    found = train(tmp_path / "killed", rows)
    assert [row for row in rows if row["kind"] == "train"] == [*steps[:3], *steps[2:]]  # the third once more
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    start = dict(fresh().model.named_parameters())
    assert any(not torch.equal(found[name], start[name]) for name in start)


# What round 0 is for


def dice(question: Question, chances: Mapping[str, float], rng: random.Random) -> GradedGroup:
    """A group whose completions are right with the chance of their task."""
    grades = tuple(grade(float(rng.random() < chances[question.task])) for _ in range(G))
    prompt = EncodedPrompt(input_ids_P=torch.zeros(1, dtype=torch.int64), pixel_inputs={}, text="")
    one = Completion(tokens_T=torch.zeros(1), logprobs_T=torch.zeros(1), text="", truncated=False)
    rewards = tuple(each.accuracy for each in grades)
    group = Group(prompt=prompt, completions=(one,) * G)
    return GradedGroup(question=question, group=group, grades_G=grades, rewards_G=rewards, advantages_G=rewards)


def test_a_mean_over_all_rounds_would_not_be_the_policys() -> None:
    """Two tasks in equal parts, right in 50 % and in 95 %: 0.725. The groups of the easy one agree, so it is replaced
    more often, and over all rounds it counts more. Over what was trained on, the easy one looks harder than it is."""
    chances, rng = {"classification": 0.5, "detection": 0.95}, random.Random(0)
    dealt = [Question(id=task, origin=task, task=task, form="open", prompt="?", truth=True) for task in chances] * 1000
    found = sample(
        lambda questions, _: Round(
            graded=tuple(dice(question, chances, rng) for question in questions), logged=Logged(), seconds={}
        ),
        dealt,
        ResampleConfig(rounds=3),
        lambda question: question,
    )

    def mean(groups: Sequence[GradedGroup]) -> float:
        return sum(each.accuracy for group in groups for each in group.grades_G) / (G * len(groups))

    assert mean(found.rounds[0].graded) == pytest.approx(0.725, abs=0.015)
    assert mean(found.groups) > 0.725 + 0.05
    assert mean(found.trained) < 0.725 - 0.02


# By the user's door


def test_a_run_resamples_and_says_so(tmp_path: Path) -> None:
    flags = ("--evaluation.models", "[curr_rl]", "--self_improvement", "null", "--sft", "null")
    run = tmp_path / "run"
    code = tiny_run.run("--output", run, *flags, "--rl.resample.rounds", "1", log=tmp_path / "log")
    assert code == 0, (tmp_path / "log").read_text()
    steps = [row for row in tiny_run.rows(run) if row["kind"] == "train"]
    counts = Counter()
    for row in steps:
        counts.update({name: row["resample"][name] for name in ("sampled", "replaced", "kept")})
        assert row["resample"]["rounds"] <= 1
    assert counts["kept"] == 3 * len(steps)
    assert counts["replaced"] > 0
    rows = [row for path in sorted(run.glob("stages/*/rollouts/*.parquet")) for row in read_rows(path)]
    assert len(rows) == 4 * counts["sampled"]
    assert sum(row["replaced"] for row in rows) == 4 * counts["replaced"]
    manifests = [json.loads(path.read_text()) for path in sorted(run.glob("stages/*/manifest.json"))]
    for name, count in (("asked", counts["sampled"]), ("replaced", counts["replaced"])):
        assert sum(n for m in manifests for tasks in m[name].values() for n in tasks.values()) == count
