"""The count of memory against what was handed to backward, and against the peak of a real training step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image

from curr_reft.checks import memory
from curr_reft.checks.memory import Memory, Prompt
from curr_reft.checks.model import ModelFacts, describe_model
from curr_reft.errors import UsageError
from curr_reft.policy.config import LoraConfig, ModelConfig, SamplingConfig
from curr_reft.policy.load import load_policy
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.policy import Policy
from curr_reft.policy.types import Completion, EncodedPrompt, Group
from curr_reft.recipe import Recipe
from curr_reft.train.master_weights import MasterWeights
from curr_reft.train.token_budget import backward_bytes

WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora": LoraConfig(rank=8)},
    "checkpointing": {"gradient_checkpointing": True},
    "frozen tower": {"freeze": ("vision", "aligner")},
}
QUICK = ("qwen2_5_vl", "smolvlm")


def recipe_of(model: ModelConfig, group_size: int = 4, tokens: int = 16, **rl: Any) -> Recipe:
    stages = {"total_steps": 2, "stages": [{"name": "open", "forms": {"open": 1}, "steps": "rest"}]}
    objective = {"objective": {"beta": 0.0}, "prompts_per_step": 1, "micro_batch_tokens": "auto", **rl}
    made = Recipe.model_validate(
        {"name": "t", "curriculum": stages, "rl": objective, "evaluation": {"models": ["base"]}}
    )
    sampling = SamplingConfig(group_size=group_size, max_new_tokens=tokens)
    return made.model_copy(update={"model": model, "sampling": sampling})


def group_of(policy: Policy, prompt: EncodedPrompt, group_size: int, tokens: int) -> Group:
    token = policy.processor.tokenizer.convert_tokens_to_ids("find")
    one = Completion(tokens_T=torch.full((tokens,), token), logprobs_T=torch.zeros(tokens), text="", truncated=True)
    return Group(prompt=prompt, completions=(one,) * group_size)


def prompt_of(policy: Policy) -> tuple[EncodedPrompt, Prompt]:
    encoded = policy.processor.encode("find the red circle", [Image.new("RGB", (112, 112))])
    shown = int((encoded.input_ids_P == policy.core.config.image_token_id).sum())
    return encoded, Prompt(tokens=encoded.length, image_tokens=shown)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "family", [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in tiny_models.EXACT]
)
def test_activations_are_those_that_backward_was_handed(family: str, way: str, tmp_path: Path) -> None:
    folder = tiny_models.build_folder(tmp_path, family)
    config = ModelConfig(path=str(folder), **WAYS[way])
    policy = load_policy(config)
    _, facts = describe_model(config)
    encoded, prompt = prompt_of(policy)
    for group_size, tokens in ((4, 16), (8, 64)):
        counted = memory.activations(recipe_of(config, group_size, tokens), facts, prompt, on_gpu=False)
        measured = backward_bytes(policy, group_of(policy, encoded, group_size, tokens))
        assert 0.75 <= counted / measured <= 1.3, (group_size, tokens, counted, measured)


@pytest.mark.parametrize("way", ["full", "lora"])
@pytest.mark.parametrize("family", QUICK)
def test_the_peak_of_a_training_step(
    family: str, way: str, tmp_path: Path, peak_of: Callable[[Callable[[], None]], int]
) -> None:
    """Weights, activations, gradients, moments together, all that a step allocates counted by the profiler."""
    folder = tiny_models.build_folder(tmp_path, family)
    config = ModelConfig(path=str(folder), **WAYS[way])
    _, facts = describe_model(config)

    def steps() -> None:
        policy = load_policy(config)
        encoded, _ = prompt_of(policy)
        weights = MasterWeights(policy.model)
        optimizer = torch.optim.AdamW(weights.held.values())
        policy.model.train()
        for _ in range(2):  # with the second the moments are there
            packed = pack([group_of(policy, encoded, 8, 64)], policy.family)
            (-packed_logprobs(policy, packed).sum()).backward()
            weights.take_gradients()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            weights.give_back()

    _, prompt = prompt_of(load_policy(config))
    estimated = memory.estimate(recipe_of(config, 8, 64), facts, prompt, on_gpu=False)
    assert 0.7 <= estimated.peak / peak_of(steps) <= 1.4


@pytest.fixture
def peak_of() -> Callable[[Callable[[], None]], int]:
    """Bytes of all tensors on the CPU at the highest, as torch's allocator reports them."""

    def measure(work: Callable[[], None]) -> int:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            work()
        held = highest = 0
        for event in sorted(profile.profiler.kineto_results.events(), key=lambda each: each.start_ns()):
            if event.name() == "[memory]":
                held += event.nbytes()
                highest = max(highest, held)
        return highest

    return measure


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> ModelFacts:
    folder = tiny_models.build_folder(tmp_path_factory.mktemp("model"), "qwen2_5_vl")
    return describe_model(ModelConfig(path=str(folder)))[1]


def test_what_training_holds_is_exact(facts: ModelFacts) -> None:
    config, longest = ModelConfig(path="x"), Prompt(tokens=100, image_tokens=64)
    plain = memory.estimate(recipe_of(config), facts, longest, on_gpu=False)
    count = facts.parameters
    assert (plain.weights, plain.masters, plain.moments, plain.gradients) == (4 * count, 0, 8 * count, 4 * count)
    assert plain.reference == plain.context == 0
    anchored = recipe_of(config, objective={"beta": 0.1})
    assert memory.estimate(anchored, facts, longest, on_gpu=True).reference == 4 * count


def test_less_is_needed_where_less_is_asked_for(facts: ModelFacts) -> None:
    longest = Prompt(tokens=100, image_tokens=64)

    def needed(**model: Any) -> Memory:
        return memory.estimate(recipe_of(ModelConfig(path="x", **model), 8, 64), facts, longest, on_gpu=True)

    assert needed(gradient_checkpointing=True).activations < needed().activations / 2
    wide = memory.estimate(recipe_of(ModelConfig(path="x"), 8, 64, micro_batch_tokens=100_000), facts, longest, True)
    assert wide.activations == needed().activations  # a step of one prompt has no more to put into a micro-batch


@pytest.mark.parametrize(
    ("text", "expected"), [("24GB", 24 * 10**9), ("24", 24 * 10**9), ("80 GiB", 80 * 2**30), ("512mb", 512 * 10**6)]
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert memory.read_size(text) == expected


@pytest.mark.parametrize("text", ["", "big", "-3GB", "0GB", "24TBs"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--gpu-memory"):
        memory.read_size(text)


def test_the_verdict_is_certain_only_of_what_is_exact(facts: ModelFacts) -> None:
    recipe = recipe_of(ModelConfig(path="x"))
    estimated = memory.estimate(recipe, facts, Prompt(tokens=100, image_tokens=64), on_gpu=False)
    held = estimated.held + estimated.gradients
    assert memory.verdict(recipe, estimated, 2 * estimated.peak, "here") == (
        f"fits: {memory.human_size(estimated.peak)} of {memory.human_size(2 * estimated.peak)} of here", False
    )  # fmt: skip
    text, certain = memory.verdict(recipe, estimated, held + 1, "here")
    assert (text[:29], certain) == ("does not fit by this estimate", False)
    text, certain = memory.verdict(recipe, estimated, held - 1, "here")
    assert certain
    assert "set model.gradient_checkpointing: true" in text
    assert "set model.lora: {}" in text
