"""Supervised fine-tuning: what is held out, how long an example may be, and that the loss is of the answer alone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from curr_reft.data.shapes import shapes_items
from curr_reft.errors import DataError, RecipeError
from curr_reft.evaluate.forgetting import validate_sft
from curr_reft.evaluate.general import general_cells
from curr_reft.evaluate.suites import validate
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.load import load_policy
from curr_reft.policy.logprobs import plain_logprobs
from curr_reft.policy.policy import Policy
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.recipe import load_recipe
from curr_reft.rewards.config import RewardsConfig
from curr_reft.train.config import SftConfig
from curr_reft.train.sft import SftExample, SftObjective, group_of, hold_out, mean_loss


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("embedded")


@pytest.fixture(scope="module")
def examples(policy: Policy) -> list[SftExample]:
    """With an image and, the last three, text only."""
    items = shapes_items(0, "train", {"detection": 2, "classification": 1, "math": 1})
    items += shapes_items(0, "pool", {"arithmetic": 3})
    questions, _ = compile_questions(items, ["open"], seed=0, frame=policy.frame, style="short")
    return [
        SftExample(question=q, completion=f"<think> i guess </think> <answer> {FORMS['open'].write(q)} </answer>")
        for q in questions["open"]
    ]


def test_what_is_held_out_is_not_learned(examples: list[SftExample]) -> None:
    assert hold_out(examples, 0.0, seed=1) == (examples, [])
    learned, out = hold_out(examples, 0.3, seed=1)
    assert len(out) == 2
    assert [each for each in examples if each in learned or each in out] == examples
    assert not any(each in learned for each in out)
    assert hold_out(examples, 0.3, seed=1) == (learned, out)
    assert hold_out(examples, 0.01, seed=1)[1]
    assert hold_out(examples, 0.99, seed=1)[0]
    with pytest.raises(DataError, match="cannot be held out"):
        hold_out(examples[:1], 0.5, seed=1)


def test_examples_that_are_too_long_are_named_all_of_them(policy: Policy, examples: list[SftExample]) -> None:
    long = [SftExample(question=each.question, completion=" ".join(["red"] * 200)) for each in examples[:2]]
    with pytest.raises(DataError) as caught:
        SftObjective(policy, [*examples, *long], SftConfig(steps=1, max_length=150), seed=0)
    assert [source for source, _ in caught.value.problems] == [each.question.source for each in long]
    assert "more than max_length 150" in caught.value.problems[0][1]


def test_the_loss_is_that_of_the_answers_tokens_with_and_without_images(
    policy: Policy, examples: list[SftExample]
) -> None:
    """The packed loss of a step, the held-out loss, and a plain forward of each example give the same."""
    plain = [plain_logprobs(policy, group_of(policy, each), 1.0) for each in examples]
    scored = torch.cat(plain)
    expected = -scored.detach().mean().item()
    assert mean_loss(policy, examples) == pytest.approx(expected, rel=1e-4)
    objective = SftObjective(policy, examples, SftConfig(steps=1, batch_size=len(examples)), seed=0)
    batch = objective.prepare(1)
    assert batch.tokens == scored.shape[0]
    with torch.no_grad():
        losses = [float(objective.loss(each)[0]) for each in batch.micro_batches]
    assert sum(losses) == pytest.approx(expected, rel=1e-4)


def test_validation_looks_at_more_than_it_chooses_by(policy: Policy, examples: list[SftExample]) -> None:
    questions, _ = compile_questions(
        shapes_items(0, "general", {"arithmetic": 4}), ["open", "binary"], seed=0, frame=policy.frame, style="short"
    )
    asked = [each.question for each in examples[:4]]
    sampling, rewards = SamplingConfig(max_new_tokens=24), RewardsConfig()
    cells = general_cells(questions["open"], questions["binary"])
    found = validate_sft(
        policy, questions=asked, held_out=examples[4:], cells=cells, sampling=sampling, rewards=rewards
    )
    usual = validate(policy, asked, sampling, rewards)
    assert (found.accuracy, found.score, found.tasks) == (usual.accuracy, usual.score, usual.tasks)
    assert found.loss == pytest.approx(mean_loss(policy, examples[4:]))
    assert set(found.general) == {"arithmetic", "yes_no"}
    bare = validate_sft(policy, questions=asked, held_out=[], cells={}, sampling=sampling, rewards=rewards)
    assert (bare.loss, bare.general) == (None, {})


@pytest.mark.parametrize(
    ("flags", "right"),
    [
        (["--self_improvement.sft.freeze", "[vision, aligner, language]"], False),
        (["--self_improvement.sft.freeze", "[language]"], True),
        (["--sft.freeze", "[language]", "--model.lora", "{}"], False),
        (["--sft.freeze", "[vision]", "--model.lora", "{}"], True),
    ],
)
def test_a_training_that_would_train_nothing_is_refused(flags: list[str], right: bool) -> None:
    recipe = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
    if right:
        load_recipe(recipe, flags)
        return
    with pytest.raises(RecipeError, match=r"sft\.freeze.*leaves nothing to train"):
        load_recipe(recipe, flags)


def test_the_defaults_of_phase_2_are_the_papers() -> None:
    """Learning rate 2e-7, at most 2,000 steps of 32, warm-up 0.05, cosine, length 8,192, nothing frozen."""
    from curr_reft.improve.config import PoolConfig, SelfImprovementConfig

    sft: Any = SelfImprovementConfig(pools={"a": PoolConfig(queries=1, quota=1)}).sft
    assert (sft.steps, sft.batch_size, sft.max_length, sft.freeze) == (2000, 32, 8192, None)
    assert (sft.optimizer.lr, sft.optimizer.warmup, sft.optimizer.schedule) == (2e-7, 0.05, "cosine")
