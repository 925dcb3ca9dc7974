"""The objective on rollouts of a tiny model: what is trained on, the KL anchor, and that cutting changes nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch

from curr_reft.curriculum.stage import Start
from curr_reft.policy.load import Policy, load_policy, save_policy
from curr_reft.policy.logprobs import plain_logprobs
from curr_reft.recipe import load_recipe
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Grade, Status
from curr_reft.run import Run
from curr_reft.run_dir import RunDir
from curr_reft.train.grpo import GradedGroup, GrpoObjective
from curr_reft.train.losses import group_advantages
from curr_reft.train.objective import MicroBatch

Fresh = Callable[..., Policy]
Grpo = Callable[..., GrpoObjective]


def gradients(objective: GrpoObjective, batches: Sequence[MicroBatch]) -> dict[str, torch.Tensor]:
    """The gradient of the step's loss, by parameter."""
    model = objective.policy.model
    model.zero_grad(set_to_none=True)
    for batch in batches:
        objective.loss(batch)[0].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_close(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert set(one) == set(other)
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=1e-4)
    assert max(float(tensor.abs().max()) for tensor in one.values()) > 1e-4


def perturb(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in policy.training_parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


def kl(objective: GrpoObjective) -> float:
    """Of step 1, as the metrics would say it."""
    return sum(objective.loss(batch)[1]["kl"] for batch in objective.prepare(1).micro_batches)


# The KL anchor


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=["full", "lora"])
@pytest.mark.parametrize("anchor", ["stage", "base"])
def test_the_anchor_is_what_the_recipe_names(
    grpo: Grpo, fresh: Fresh, random_model: Path, tmp_path: Path, anchor: str, lora: dict[str, int] | None
) -> None:
    """A second stage: its start is not the base. The KL is 0 against the start, and against the base it is not."""
    moved = fresh()
    perturb(moved)
    start = tmp_path / "start"
    save_policy(moved, start)
    flags = ["--output", str(tmp_path / "run"), "--model.path", str(random_model), "--rl.objective.beta", "0.1"]
    flags += ["--rl.objective.reference", anchor, "--questions.style", "short"]
    flags += ["--model.lora", "{rank: 4}"] if lora else []
    recipe = load_recipe(tiny_run.RECIPE, flags)
    with RunDir.open(recipe.output, recipe) as directory:
        trainings = Run(recipe, directory).trainings
        begin = Start.of_model(str(start))
        policy = trainings.load(begin)
        reference = trainings.reference(policy, begin)
        assert reference is not None
        objective = grpo(policy, reference=reference)
        if anchor == "stage":
            assert abs(kl(objective)) < 1e-6
        else:
            assert kl(objective) > 1e-3
        before = [batch.reference_logprobs_S for batch in grpo(policy, reference=reference).prepare(1).micro_batches]
        group = batch_groups(grpo(policy, reference=reference))[0]
        with reference() as frozen, torch.no_grad():
            kept = plain_logprobs(frozen, group)
        perturb(policy)
        assert kl(grpo(policy, reference=reference)) > 1e-3
        # The anchor itself does not move with the policy.
        with reference() as frozen, torch.no_grad():
            torch.testing.assert_close(plain_logprobs(frozen, group), kept, atol=1e-5, rtol=0)
        assert len(before) > 0
        assert all(logprobs is not None and not logprobs.requires_grad for logprobs in before)
        assert all(parameter.requires_grad for parameter in policy.training_parameters())
        gradient = gradients(objective, grpo(policy, reference=reference).prepare(1).micro_batches)
        assert any(name.endswith(("lora_B.default.weight", "q_proj.weight")) for name in gradient)


def batch_groups(objective: GrpoObjective) -> list[Any]:
    return [group for batch in objective.prepare(1).micro_batches for group in batch.packed.groups]


def test_without_beta_no_reference_is_kept(grpo: Grpo, fresh: Fresh) -> None:
    policy = fresh()
    assert all(batch.reference_logprobs_S is None for batch in grpo(policy).prepare(1).micro_batches)
    with pytest.raises(AssertionError, match="exactly when beta > 0"):
        grpo(policy, reference=lambda: nullcontext(policy), beta=0.0)


def test_grading_is_told_the_share_of_the_budget_that_is_done(
    grpo: Grpo, fresh: Fresh, babble: Callable[..., None]
) -> None:
    """A function of the step alone: an objective that resumes at a step says what one that went there says."""
    shares: list[float] = []

    def note(rows: Sequence[Any], rewards: RewardsConfig, progress: float) -> list[Grade]:
        shares.append(progress)
        return [Grade(status=Status.OK, format=1.0, accuracy=1.0, correct=True) for _ in rows]

    babble(note)
    policy = fresh()
    objective = grpo(policy)
    for step in range(1, objective.budget + 1):
        objective.prepare(step)
    assert shares == [step / objective.budget for step in range(objective.budget)]
    grpo(policy).prepare(3)
    assert shares[-1] == shares[2]


# Cutting and leaving out


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "gspo"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_small_micro_batches_give_the_gradient_of_one_large(
    grpo: Grpo, fresh: Fresh, random_model: Path, loss: str, beta: float
) -> None:
    policy, anchor = fresh(), load_policy(random_model)
    perturb(policy)
    reference = (lambda: nullcontext(anchor)) if beta else None
    found = []
    for tokens in (16_384, 64):
        objective = grpo(policy, reference=reference, micro_batch_tokens=tokens, loss=loss)
        batches = objective.prepare(1).micro_batches
        assert len(batches) == (1 if tokens > 1000 else 3)
        found.append(gradients(objective, batches))
    assert_close(*found)


def test_groups_that_teach_nothing_are_left_out_and_change_nothing(
    grpo: Grpo, fresh: Fresh, babble: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_group_equal(rows: Sequence[Any], *_: object) -> list[Grade]:
        return [
            Grade(status=Status.OK, format=1.0, accuracy=0.5 if number < 4 else number % 3 / 2, correct=False)
            for number, _ in enumerate(rows)
        ]

    policy = fresh()
    babble(first_group_equal)
    objective = grpo(policy)
    step = objective.prepare(1)
    assert step.metrics["zero_variance"] == pytest.approx(1 / 3)
    assert sum(len(batch.packed.groups) for batch in step.micro_batches) == 2
    dropped = gradients(objective, step.micro_batches)
    monkeypatch.setattr(GradedGroup, "teaches", True)
    objective = grpo(policy)
    whole = objective.prepare(1).micro_batches
    assert sum(len(batch.packed.groups) for batch in whole) == 3
    assert_close(dropped, gradients(objective, whole))


def test_with_a_kl_penalty_groups_of_zero_advantage_stay(
    grpo: Grpo, fresh: Fresh, random_model: Path, babble: Callable[..., None]
) -> None:
    babble(lambda rows, *_: [Grade(status=Status.OK, format=1.0, accuracy=1.0, correct=True) for _ in rows])
    policy, anchor = fresh(), load_policy(random_model)
    perturb(policy)
    assert grpo(policy).prepare(1).micro_batches == ()
    objective = grpo(policy, reference=lambda: nullcontext(anchor))
    batches = objective.prepare(1).micro_batches
    assert sum(len(batch.packed.groups) for batch in batches) == 3
    assert any(float(tensor.abs().max()) > 0 for tensor in gradients(objective, batches).values())


def test_a_completion_without_score_is_left_out(
    grpo: Grpo, fresh: Fresh, random_model: Path, babble: Callable[..., None]
) -> None:
    """Neither its tokens nor its prompt's mean; with the KL penalty too. It is counted, and stands in the rollouts."""

    def some_fail(rows: Sequence[Any], *_: object) -> list[Grade]:
        return [
            Grade(status=Status.GRADER_FAILED, format=1.0, accuracy=None)
            if number in (1, 8, 9, 10, 11)
            else Grade(status=Status.OK, format=1.0, accuracy=number % 4 / 3, correct=False)
            for number, _ in enumerate(rows)
        ]

    babble(some_fail)
    policy, anchor = fresh(), load_policy(random_model)
    for reference in (None, lambda: nullcontext(anchor)):
        objective = grpo(policy, reference=reference)
        step = objective.prepare(1)
        (batch,) = step.micro_batches
        assert [len(group.completions) for group in batch.packed.groups] == [3, 4]  # the third has no score at all
        lengths = [completion.length for group in batch.packed.groups for completion in group.completions]
        expected = [*group_advantages([0.5, 0.5 + 2 / 3, 1.5]), *group_advantages([1.0, 4 / 3, 5 / 3, 2.0])]
        each = batch.advantages_S.split(lengths)  # type: ignore[union-attr]
        assert [float(part[0]) for part in each] == pytest.approx(expected, abs=1e-3)
        assert float(batch.weights_S.sum()) == pytest.approx(1.0)
        assert step.metrics["statuses"] == {"ok": 7, "grader_failed": 5}
        assert step.metrics["accuracy"] == pytest.approx((0 + 2 / 3 + 1 + 0 + 1 / 3 + 2 / 3 + 1) / 7)
        assert [row["advantage"] is None for row in step.records] == [
            number in (1, 8, 9, 10, 11) for number in range(12)
        ]


def test_nothing_scored_is_a_step_without_micro_batches(
    grpo: Grpo, fresh: Fresh, random_model: Path, babble: Callable[..., None]
) -> None:
    babble(lambda rows, *_: [Grade(status=Status.GRADER_FAILED, format=0.0, accuracy=None) for _ in rows])
    anchor = load_policy(random_model)
    for reference in (None, lambda: nullcontext(anchor)):
        step = grpo(fresh(), reference=reference).prepare(1)
        assert step.micro_batches == ()
        assert (step.metrics["reward"], step.metrics["accuracy"]) == (None, None)


# Several updates on one batch


def test_the_second_update_is_measured_against_the_policy_that_sampled(grpo: Grpo, fresh: Fresh) -> None:
    policy = fresh()
    on_policy, off_policy = grpo(policy), grpo(policy, updates_per_batch=2)
    assert all(batch.old_logprobs_S is None for batch in on_policy.prepare(1).micro_batches)
    (batch,) = off_policy.prepare(1).micro_batches
    assert batch.old_logprobs_S is not None
    with torch.no_grad():
        plain = torch.cat([plain_logprobs(policy, group) for group in batch.packed.groups])
    torch.testing.assert_close(batch.old_logprobs_S, plain, atol=1e-4, rtol=0)
    assert_close(gradients(off_policy, [batch]), gradients(on_policy, grpo(policy).prepare(1).micro_batches))
    perturb(policy)
    # Far from the sampling policy the clipped loss differs from the on-policy one.
    with torch.no_grad():
        moved = float(off_policy.loss(batch)[0])
    assert abs(moved) > 1e-3


def test_the_images_of_the_next_step_are_begun(fresh, grpo, monkeypatch):
    """Of the very questions it will ask; and looking ahead moves nothing."""
    begun, asked = [], []
    policy = fresh()
    objective, other = grpo(policy), grpo(policy)
    monkeypatch.setattr(policy.processor, "prefetch", lambda questions: begun.append([q.id for q in questions]))
    for step in range(1, objective.budget + 1):
        objective.prepare(step)
        asked.append([question.id for question in other.sampler.draw(step)])
        assert objective.state_dict() == other.state_dict()
    assert begun == asked[1:]
    assert len({tuple(ids) for ids in asked}) > 1
