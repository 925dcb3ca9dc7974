"""One pass of a trained vision tower for rollout and update: where it is taken, and that the step is the same."""

from dataclasses import replace

import pytest
import torch

from curr_reft.train import grpo as grpo_module
from curr_reft.train.config import ResampleConfig
from curr_reft.train.one_pass import continues_vision, worth_continuing


def gradients_of(objective, step=1):
    """The gradients of a step, and how often its vision tower ran."""
    policy, passes = objective.policy, []
    embedding = policy.patch_embedding.register_forward_hook(lambda module, args, output: passes.append(len(output)))
    batch = objective.prepare(step)
    policy.model.train()
    for micro_batch in batch.micro_batches:
        objective.loss(micro_batch)[0].backward()
    embedding.remove()
    gradients = {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}
    policy.model.zero_grad()
    return gradients, len(passes)


def test_the_step_is_the_same(fresh, grpo, monkeypatch):
    ours, passes = gradients_of(grpo(fresh()))
    assert passes == 1
    monkeypatch.setattr(grpo_module, "continues_vision", lambda *_: False)
    theirs, passes = gradients_of(grpo(fresh()))
    assert passes == 2
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name


@pytest.mark.parametrize(
    ("options", "objective", "passes"),
    [
        ({"gradient_checkpointing": True}, {}, 2),
        ({}, {"updates_per_batch": 2}, 2),
        ({}, {"micro_batch_tokens": 64}, 4),  # a micro-batch for each of three prompts
    ],
    ids=["checkpointing", "two updates", "micro-batches"],
)
def test_not_where_it_costs_memory_or_the_weights_move(fresh, grpo, options, objective, passes):
    assert gradients_of(grpo(fresh(**options), **objective))[1] == passes


def test_what_decides(fresh, grpo):
    policy = fresh()
    objective = grpo(policy)
    prompts = [policy.processor.encode_question(question) for question in objective.sampler.draw(1)]
    config, given = objective.config, (objective.sampling, 16_384)
    assert continues_vision(policy, prompts, config, *given)
    assert not continues_vision(policy, prompts, config, objective.sampling, 100)
    assert not continues_vision(policy, prompts, config, objective.sampling, None)
    assert not continues_vision(policy, prompts, config.model_copy(update={"resample": ResampleConfig()}), *given)
    assert not continues_vision(replace(policy, packed=False), prompts, config, *given)
    assert not continues_vision(fresh(freeze=("vision", "aligner")), prompts, config, *given)


def test_few_images_left_are_computed_anew(fresh, grpo):
    policy = fresh()
    prompts = [policy.processor.encode_question(question) for question in grpo(policy).sampler.draw(1)]
    assert len({id(prompt.pixel_inputs["pixel_values"]) for prompt in prompts}) == 3
    assert worth_continuing(prompts, prompts)
    assert not worth_continuing(prompts, prompts[:1])
    assert worth_continuing([prompts[0], prompts[0]], prompts[:1])  # one image, shown twice


def test_groups_that_do_not_teach_may_leave(fresh, grpo, monkeypatch):
    """Gradients of a graph that also holds images nothing is learned from."""

    def step(force):
        objective = grpo(fresh())
        if not force:
            monkeypatch.setattr(grpo_module, "continues_vision", lambda *_: False)
        graded = objective.grade

        def flat(*args):
            first, *rest = graded(*args)
            return [replace(first, advantages_G=(0.0,) * len(first.advantages_G)), *rest]

        objective.grade = flat
        monkeypatch.setattr("curr_reft.train.one_pass.LEAST_SHARE", 0.1)
        return gradients_of(objective)

    (ours, passes), (theirs, more) = step(True), step(False)
    assert (passes, more) == (1, 2)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name
    assert all(torch.isfinite(gradient).all() for gradient in ours.values())
