"""One pass of a trained vision tower for rollout and update: where it is taken, and that the step is the same."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from curr_reft.train import grpo as grpo_module
from curr_reft.train.config import ObjectiveConfig, ResampleConfig, RlConfig
from curr_reft.train.one_pass import has_dropout, kept_graph, worth_continuing


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
    monkeypatch.setattr(grpo_module, "kept_graph", lambda *_: None)
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
    assert kept_graph(policy, prompts, config, *given) == "vision"
    assert not kept_graph(policy, prompts, config, objective.sampling, 100)
    assert not kept_graph(policy, prompts, config, objective.sampling, None)
    assert not kept_graph(policy, prompts, config.model_copy(update={"resample": ResampleConfig()}), *given)
    assert not kept_graph(replace(policy, packed=False), prompts, config, *given)
    assert not kept_graph(fresh(freeze=("vision", "aligner")), prompts, config, *given)
    all_of_it = config.model_copy(update={"one_prompt_pass": True})
    assert kept_graph(policy, prompts, all_of_it, *given) == "prompts"
    assert kept_graph(fresh(freeze=("vision", "aligner")), prompts, all_of_it, *given) == "prompts"
    few_at_once = objective.sampling.model_copy(update={"rows_at_once": 4})
    assert kept_graph(policy, prompts, all_of_it, few_at_once, 16_384) == "vision"
    assert kept_graph(replace(policy, rows_that_fit=4), prompts, all_of_it, *given) == "vision"
    assert kept_graph(policy, prompts, all_of_it, objective.sampling, 100) is None
    dropped_out = fresh(lora={"rank": 4, "dropout": 0.1}, freeze=("vision", "aligner"))
    assert kept_graph(dropped_out, prompts, all_of_it, *given) is None
    policy.tower.blocks[0].attn.attention_dropout = 0.1
    assert has_dropout(policy.model)


@pytest.mark.parametrize(
    "options", [{"resample": ResampleConfig()}, {"objective": ObjectiveConfig(updates_per_batch=2)}]
)
def test_what_never_trains_from_the_rollouts_pass_is_refused(options):
    with pytest.raises(ValidationError, match=r"one_prompt_pass: with .* set it to false"):
        RlConfig(one_prompt_pass=True, **options)


@pytest.mark.parametrize("reference", [False, True], ids=["beta 0", "KL penalty"])
def test_a_step_of_completions_alone_is_the_same(fresh, grpo, reference):
    def step(one_prompt_pass):
        policy = fresh(**({"lora": {"rank": 4}} if reference else {}))
        objective = grpo(policy, policy.reference if reference else None, one_prompt_pass=one_prompt_pass)
        rows = []
        policy.core.get_input_embeddings().register_forward_hook(
            lambda module, args, output: rows.append(args[0].numel()) if torch.is_grad_enabled() else None
        )
        return gradients_of(objective)[0], rows

    (ours, (prompts, completions)), (theirs, (whole,)) = step(True), step(False)
    assert prompts + completions == whole
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-9, name


def test_what_the_rollout_kept_goes_where_several_micro_batches_follow(fresh, grpo):
    """Memory ran out in a reference forward, say, so that the budget is not the one the rollout was planned with."""
    policy = fresh()
    objective = grpo(policy, one_prompt_pass=True)
    prompts = [group.prompt for group in objective.prepare(1).micro_batches[0].packed.groups]
    assert policy.prompt_passes.take(prompts) is not None
    graded = objective.grade

    def lower(*args):
        objective.tokens.tokens = 64
        return graded(*args)

    objective.grade = lower
    batches = objective.prepare(2).micro_batches
    assert len(batches) == 3
    assert all(policy.prompt_passes.take([g.prompt for g in batch.packed.groups]) is None for batch in batches)


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
            monkeypatch.setattr(grpo_module, "kept_graph", lambda *_: None)
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
