"""Every family with a tiny model of its real classes, loaded from a folder: the packed row against the plain one.

Run with ``-s`` to see the largest differences, which docs/models.md quotes.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
from PIL import Image
from scoring import scored
from torch import nn

from curr_reft.data.frame import keep_size
from curr_reft.policy.config import LoraConfig, ModelConfig, SamplingConfig
from curr_reft.policy.families import FAMILIES, image_marks, part_of
from curr_reft.policy.graphs import StepGraphs
from curr_reft.policy.lean import find_lean
from curr_reft.policy.load import Policy, load_policy, save_policy
from curr_reft.policy.logprobs import packed_logprobs, plain_logprobs
from curr_reft.policy.packing import pack, pack_images
from curr_reft.policy.rollout import rollout
from curr_reft.policy.selfcheck import check_packed
from curr_reft.policy.types import Completion, EncodedPrompt, Group

exact = pytest.mark.parametrize("family_policy", tiny_models.EXACT, indirect=True)
every = pytest.mark.parametrize("family_policy", tiny_models.CONFIGS, indirect=True)
SAMPLING = SamplingConfig(group_size=3, max_new_tokens=8)


@pytest.fixture
def family_policy(request, folders) -> Policy:
    packed = request.param in tiny_models.EXACT
    return load_policy(ModelConfig(path=str(folders(request.param)), packed=packed))


@pytest.fixture
def family_prompts(family_policy, picture) -> list[EncodedPrompt]:
    """Two images of different size; one image; text only; and the first prompt's images under another question."""
    encode = family_policy.processor.encode
    first = encode("find the red circle", [picture(0, 84, 84), picture(1, 56, 112)])
    again = encode("list the objects", [picture(0, 84, 84), picture(1, 56, 112)])
    return [
        first,
        encode("how many red", [picture(2, 112, 60)]),
        encode("how many red plus how many blue"),
        replace(again, pixel_inputs=first.pixel_inputs),
    ]


def make_groups(prompts: list[EncodedPrompt]) -> list[Group]:
    """Ragged completions, another number of them for every other prompt."""
    generator = torch.Generator().manual_seed(3)
    words = tiny_models.build_tokenizer("idefics").get_vocab()["0"]  # the family with most marks before its words

    def completion(length: int) -> Completion:
        tokens_T = torch.randint(words, words + 150, (length,), generator=generator)
        return Completion(tokens_T=tokens_T, logprobs_T=torch.zeros(length), text="", truncated=False)

    return [
        Group(prompt=prompt, completions=tuple(completion(length) for length in (6, 1, 3)[: 3 - n % 2]))
        for n, prompt in enumerate(prompts)
    ]


@exact
def test_family_is_exact(family_policy, family_prompts):
    policy, groups = family_policy, make_groups(family_prompts)
    packed, packed_gradients = scored(policy, packed_logprobs(policy, pack(groups, policy.family)))
    plain, plain_gradients = scored(policy, torch.cat([plain_logprobs(policy, group) for group in groups]))
    assert plain.std() > 0.5  # a model that says the same everywhere would show nothing
    assert packed_gradients.keys() == plain_gradients.keys()
    assert {part_of(name, policy.family) for name in plain_gradients} == {"vision", "aligner", "language"}

    relative = relative_differences(packed_gradients, plain_gradients)
    worst = max(relative, key=relative.__getitem__)
    difference = float((packed - plain).abs().max())
    print(f"\n{policy.core.config.model_type}: log-probabilities {difference:.1e}, gradients {relative[worst]:.1e}")
    assert difference <= 2e-5
    assert relative[worst] <= 1e-4, worst


def relative_differences(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, float]:
    """Of gradients of a family, by parameter."""
    # A bias of keys without rotary positions has no gradient, but for rounding: softmax does not see it.
    whole = torch.cat([gradient.flatten() for gradient in theirs.values()]).norm()
    silent = {name for name, gradient in theirs.items() if gradient.norm() < 1e-6 * whole}
    assert all(name.endswith("k_proj.bias") for name in silent)
    assert all(ours[name].norm() < 1e-6 * whole for name in silent)
    return {
        name: float((ours[name] - gradient).norm() / gradient.norm())
        for name, gradient in theirs.items()
        if name not in silent
    }


@exact
def test_family_with_an_adapter_and_checkpointing(family_policy, family_prompts):
    """LoRA, the vision tower frozen with the rest, activations recomputed; and the reference on the same row."""
    policy = load_policy(ModelConfig(path=family_policy.source, lora=LoraConfig(rank=4), gradient_checkpointing=True))
    with torch.no_grad():  # B starts at zero: without this the adapter would not be tested
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    groups = make_groups(family_prompts)
    batch = pack(groups, policy.family)
    packed, packed_gradients = scored(policy, packed_logprobs(policy, batch))
    plain, plain_gradients = scored(policy, torch.cat([plain_logprobs(policy, group) for group in groups]))
    assert (packed - plain).abs().max() <= 2e-5
    assert all("lora_" in name for name in packed_gradients)
    for name, theirs in plain_gradients.items():
        assert (packed_gradients[name] - theirs).norm() <= 1e-4 * theirs.norm(), name
    with policy.reference() as reference, torch.no_grad():
        base = packed_logprobs(family_policy, batch)
        assert (packed_logprobs(reference, batch) - base).abs().max() <= 1e-5
        assert (packed - base).abs().max() > 1e-3


@exact
def test_family_in_bfloat16(family_policy, family_prompts):
    policy = load_policy(ModelConfig(path=family_policy.source, dtype="bfloat16"))
    for group in rollout(policy, family_prompts, SAMPLING, seed=1):
        assert check_packed(policy, group) < 0.1


@every
def test_greedy_is_generate(family_policy, family_prompts):
    policy = family_policy
    greedy = SAMPLING.model_copy(update={"temperature": 0.0, "group_size": 1})
    for group in rollout(policy, family_prompts, greedy, seed=0):
        prompt = group.prompt
        ids = prompt.input_ids_P[None]
        with torch.no_grad():
            out = policy.core.eval().generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=greedy.max_new_tokens,
                suppress_tokens=policy.suppressed_ids,
                pad_token_id=policy.pad_id,
                **prompt.pixel_inputs,
                **image_marks(policy.family, policy.core, ids),
            )
        assert group.completions[0].tokens_T.tolist() == out[0, prompt.length :].tolist()


@every
def test_sampled_logprobs_are_those_of_training(family_policy, family_prompts):
    policy = family_policy
    # Qwen3.5 decodes by a recurrence and trains by the same in chunks: other roundings, on the plain path alone.
    limit = 1e-4 if policy.core.config.model_type == "qwen3_5" else 1e-5
    for temperature in (1.0, 0.7):
        sampling = SAMPLING.model_copy(update={"temperature": temperature, "top_k": 50, "top_p": 0.95})
        batch = pack(rollout(policy, family_prompts, sampling, seed=5), policy.family)
        trained = packed_logprobs(policy, batch, temperature)
        assert (trained - batch.sampled_logprobs_S).abs().max() <= limit
        assert len(set(batch.targets_S.tolist())) > 10  # it does not say one thing all the time


@exact
def test_training_from_the_rollouts_own_pass(family_policy, family_prompts):
    """Completions alone, on keys and logits that prefill left with their graph."""
    policy = family_policy
    batch = pack(rollout(policy, family_prompts, SAMPLING, seed=5, graph="prompts"), policy.family)
    seen: list[int] = []
    embeddings = policy.core.get_input_embeddings()
    watch = embeddings.register_forward_hook(lambda module, args, output: seen.append(args[0].numel()))
    (ours, gradients), (theirs, others) = (scored(policy, packed_logprobs(policy, batch)) for _ in range(2))
    watch.remove()
    inputs = len(batch.targets_S) - sum(len(group.completions) for group in batch.groups)
    assert seen == [inputs, batch.length]
    assert (ours - theirs).abs().max() <= 2e-5
    assert gradients.keys() == others.keys()
    assert max(relative_differences(gradients, others).values()) <= 1e-4


@exact
def test_family_samples_as_the_plain_path(family_policy, family_prompts, folders):
    plain = load_policy(ModelConfig(path=family_policy.source, packed=False))
    results = [
        [[completion.tokens_T.tolist() for completion in group.completions] for group in groups]
        for groups in (rollout(each, family_prompts, SAMPLING, seed=4) for each in (family_policy, plain))
    ]
    assert results[0] == results[1]


@exact
def test_the_lean_step_is_the_models_own(family_policy, family_prompts, monkeypatch):
    """Every family decodes by the lean step, also recorded and replayed, and by its own modules it draws the same."""
    policy = family_policy
    assert find_lean(policy.core) is not None
    recorded = replace(policy, graphs=StepGraphs(policy.device))
    lean, replayed = (pack(rollout(each, family_prompts, SAMPLING, seed=6), each.family) for each in (policy, recorded))
    assert recorded.graphs.captured > 0
    monkeypatch.setattr("curr_reft.policy.advance.find_lean", lambda core: None)
    own = pack(rollout(policy, family_prompts, SAMPLING, seed=6), policy.family)
    for ours in (lean, replayed):
        assert torch.equal(ours.targets_S, own.targets_S)
        assert (ours.sampled_logprobs_S - own.sampled_logprobs_S).abs().max() <= 1e-5


@every
def test_placeholders_of_images_are_never_sampled(family_policy, family_prompts):
    """Even by a head that wants nothing else."""
    policy = family_policy
    vocabulary = policy.processor.tokenizer.get_vocab()
    marks = {vocabulary[mark] for mark in tiny_models.MARKS[tiny_models.style_of(policy.core.config.model_type)]}
    assert marks <= set(policy.suppressed_ids)
    wanted = torch.tensor(sorted(marks))
    policy.core.get_output_embeddings().register_forward_hook(
        lambda module, args, output: output.index_add(-1, wanted, torch.full((*output.shape[:-1], len(wanted)), 50.0))
    )
    groups = rollout(policy, family_prompts[:1], SAMPLING, seed=0)
    assert not marks & {token for c in groups[0].completions for token in c.tokens_T.tolist()}


@exact
def test_a_shared_image_passes_the_tower_once(family_policy, family_prompts):
    """The tower sees no more when another prompt shows an image than it sees without that prompt."""
    assert pack_images(family_prompts, family_policy.family).repeated
    seen = []
    for prompts in (family_prompts, family_prompts[:3]):
        policy = load_policy(ModelConfig(path=family_policy.source))
        layer = next(
            module
            for name, module in policy.core.named_modules()
            if isinstance(module, nn.Linear) and part_of(f"{name}.", policy.family) == "vision"
        )
        calls = []
        layer.register_forward_hook(lambda module, args, output, calls=calls: calls.append(args[0].numel()))
        rollout(policy, prompts, SAMPLING, seed=0)
        seen.append(calls)
        assert not policy.core.get_submodule(policy.family.features)._forward_hooks
    assert len(seen[0]) == 1
    assert seen[0] == seen[1]


@every
def test_same_tensors_as_the_official_processor(family_policy, family_prompts, picture):
    """Of the class whose ``__call__`` is the official one; LLaVA's tiles without the padding between images."""
    policy = family_policy
    official = policy.processor.processor
    images = [picture(0, 84, 84), picture(1, 56, 112)]
    encoded = family_prompts[0]
    expected = official(text=[encoded.text], images=[images], return_tensors="pt")
    assert encoded.input_ids_P.tolist() == expected["input_ids"][0].tolist()
    pixels = expected["pixel_values"]
    if pixels.dim() == 5 and policy.core.config.model_type.startswith("llava"):
        assert not pixels[0, len(encoded.pixel_inputs["pixel_values"]) :].any()
        pixels = torch.cat([tiles[tiles.flatten(1).any(1)] for tiles in pixels])
    assert torch.equal(encoded.pixel_inputs["pixel_values"], pixels)
    for name in policy.family.shown:
        assert encoded.pixel_inputs[name].tolist() == torch.as_tensor(expected[name]).tolist()


OFFICIAL = {
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor",
    "qwen3_5": "Qwen3VLProcessor",
    "idefics3": "Idefics3Processor",
    "smolvlm": "SmolVLMProcessor",
    "internvl": "InternVLProcessor",
    "llava_next": "LlavaNextProcessor",
    "llava_onevision": "LlavaOnevisionProcessor",
    "gemma3": "Gemma3Processor",
}


@every
def test_what_is_saved_is_the_same_model_and_names_the_official_classes(family_policy, family_prompts, tmp_path):
    policy = family_policy
    save_policy(policy, tmp_path)
    assert "curr_reft" not in "".join(file.read_text() for file in tmp_path.glob("*.json"))
    saved = json.loads((tmp_path / "processor_config.json").read_text())
    assert saved["processor_class"] == OFFICIAL[policy.core.config.model_type]
    again = load_policy(ModelConfig(path=str(tmp_path), packed=policy.packed))
    batch = pack(make_groups(family_prompts), policy.family)
    with torch.no_grad():
        assert torch.equal(packed_logprobs(again, batch), packed_logprobs(policy, batch))
    encoded = again.processor.encode("how many red", [Image.new("RGB", (70, 98), "red")])
    expected = policy.processor.encode("how many red", [Image.new("RGB", (70, 98), "red")])
    assert encoded.input_ids_P.tolist() == expected.input_ids_P.tolist()
    assert torch.equal(encoded.pixel_inputs["pixel_values"], expected.pixel_inputs["pixel_values"])


def test_the_table_of_tests_is_the_table_of_families_and_of_the_docs():
    assert set(tiny_models.CONFIGS) == set(FAMILIES)
    docs = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    for model_type in tiny_models.EXACT:
        row = next(line for line in docs.splitlines() if line.startswith(f"| `{model_type}` |"))
        assert f"| `{FAMILIES[model_type].frame}` |" in row
    assert all(f"`{model_type}`" in docs for model_type in FAMILIES)


def test_only_families_that_resize_freely_take_pixels_of_the_resized_image(folders):
    """``fit`` matters to the frame ``pixels`` alone; tiles of fixed size leave boxes in a frame of the whole image."""
    for model_type, family in FAMILIES.items():
        policy = load_policy(ModelConfig(path=str(folders(model_type)), packed=False))
        if "image_grid_thw" not in family.pixel_axes:
            assert policy.frame.fit is keep_size
            assert family.frame != "pixels"
