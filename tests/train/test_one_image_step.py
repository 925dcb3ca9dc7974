"""A step that asks several questions about one image: the same gradients, fewer tokens, one micro-batch an image."""

from collections import Counter
from dataclasses import replace

import pytest
import tiny_run

from curr_reft.data.item import images_key
from curr_reft.policy import beginnings, packing, row
from curr_reft.policy.beginnings import Trunk
from curr_reft.recipe import load_recipe
from curr_reft.train.config import RlConfig
from curr_reft.train.one_pass import kept_graph
from curr_reft.trainings import Trainings


class Given:
    """Asks the given questions at every step."""

    def __init__(self, questions):
        self.questions = questions

    def draw(self, step):
        return self.questions

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.fixture
def questions(prepared):
    """Two questions about each of two images, in turn: the open one and another one in its form."""
    first, second = prepared.of("train", "open")[:2]
    others = prepared.of("train", "binary")[:2]
    pairs = zip(others, (first, second), strict=True)
    return [first, second, *(replace(each, images=like.images) for each, like in pairs)]


def step_of(objective, questions):
    objective.sampler = Given(questions)
    batch = objective.prepare(1)
    objective.policy.model.train()
    for micro_batch in batch.micro_batches:
        objective.loss(micro_batch)[0].backward()
    return batch, {n: p.grad.clone() for n, p in objective.policy.model.named_parameters() if p.grad is not None}


def alone(prompts):
    return [Trunk(members=(n,), length=prompt.length) for n, prompt in enumerate(prompts)]


@pytest.mark.parametrize("tokens", [16_384, 200])
def test_the_step_is_the_same(fresh, grpo, questions, monkeypatch, tokens):
    """Against a step whose prompts share nothing."""
    batch, ours = step_of(grpo(fresh(), micro_batch_tokens=tokens), questions)
    for module in (beginnings, row):
        monkeypatch.setattr(module, "find_trunks", alone)
    other, theirs = step_of(grpo(fresh(), micro_batch_tokens=tokens), questions)
    assert [row["completion"] for row in batch.records] == [row["completion"] for row in other.records]
    lengths = [sum(each.packed.length for each in step.micro_batches) for step in (batch, other)]
    images = batch.micro_batches[0].packed.groups[0].prompt.image_end * 2
    assert lengths[0] <= lengths[1] - images  # else this shows nothing
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-8, name


def test_questions_about_one_image_are_in_one_micro_batch(fresh, grpo, questions):
    batch, _ = step_of(grpo(fresh(), micro_batch_tokens=150), questions)
    shown = [
        [group.prompt.pixel_inputs["pixel_values"] for group in each.packed.groups] for each in batch.micro_batches
    ]
    assert [len(images) for images in shown] == [2, 2]
    assert all(one is other for one, other in shown)
    assert all(packing.row_tokens(each.packed.groups) == each.packed.length <= 150 for each in batch.micro_batches)


def test_what_is_shared_counts_once_when_one_pass_is_decided(fresh, grpo, questions):
    policy = fresh()
    objective = grpo(policy)
    prompts = [policy.processor.encode_question(question) for question in questions]
    most = sum(prompt.length + 4 * 7 for prompt in prompts) - beginnings.repeated_tokens(prompts)
    asked = [(policy, prompts, objective.config, objective.sampling, budget) for budget in (most, most - 1)]
    assert [kept_graph(*each) for each in asked] == ["vision", None]


def test_the_recipe_asks_for_it(prepared):
    """Of a mixture of forms, whose items come in each: pairs of questions about one image, where there were few."""
    pairs = []
    for each in (1, 2):
        rl = RlConfig(prompts_per_step=8, questions_per_image=each)
        recipe = load_recipe(tiny_run.RECIPE).model_copy(update={"rl": rl})
        none = dict.fromkeys(("directory", "console", "base_start", "sync", "note"))
        sampler = Trainings(recipe=recipe, prepared=prepared, **none).sampler({"open": 0.5, "binary": 0.5}, 1, 4)
        shown = [Counter(images_key(question.images) for question in sampler.draw(step)) for step in range(4)]
        pairs.append(sum(count == 2 for step in shown for count in step.values()))
    assert pairs[0] <= 4
    assert pairs[1] >= 12  # of 16


def test_more_questions_than_prompts_are_refused():
    with pytest.raises(ValueError, match=r"questions_per_image \(3\) must not be above prompts_per_step \(2\)"):
        RlConfig(prompts_per_step=2, questions_per_image=3)
