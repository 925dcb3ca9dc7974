"""Every family of the table with a tiny model of its real classes; and those that must be refused."""

from types import SimpleNamespace

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Gemma3Config,
    Idefics3Config,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3VLConfig,
    SmolVLMConfig,
)

from curr_reft.embedded.tokenizer import IMAGE, VIDEO, VISION_END, VISION_START, build_tokenizer
from curr_reft.errors import UsageError
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.families import FAMILIES, check_shared_prefix, family_of, part_of
from curr_reft.policy.load import wrap_model
from curr_reft.policy.logprobs import packed_logprobs, plain_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import Completion, EncodedPrompt, Group

TOKENIZER = build_tokenizer()
IDS = TOKENIZER.get_vocab()
TEXT = {
    "vocab_size": len(IDS),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
MARKS = {
    "image_token_id": IDS[IMAGE],
    "video_token_id": IDS[VIDEO],
    "vision_start_token_id": IDS[VISION_START],
    "vision_end_token_id": IDS[VISION_END],
}
VISION = {"depth": 2, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
CONFIGS = {
    "qwen2_vl": lambda: Qwen2VLConfig(
        text_config={**TEXT, **ROPE}, vision_config={**VISION, "embed_dim": 32, "hidden_size": 64}, **MARKS
    ),
    "qwen2_5_vl": lambda: Qwen2_5_VLConfig(
        text_config={**TEXT, **ROPE},
        vision_config={**VISION, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64, "window_size": 56,
                       "fullatt_block_indexes": [1]},
        **MARKS,
    ),
    "qwen3_vl": lambda: Qwen3VLConfig(
        text_config={**TEXT, **ROPE},
        vision_config={**VISION, "hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64,
                       "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
        **MARKS,
    ),
    "idefics3": lambda: Idefics3Config(
        text_config={**TEXT, "model_type": "llama"}, vision_config=SIGLIP, image_token_id=IDS[IMAGE], scale_factor=2
    ),
    "smolvlm": lambda: SmolVLMConfig(
        text_config={**TEXT, "model_type": "llama"}, vision_config=SIGLIP, image_token_id=IDS[IMAGE], scale_factor=2
    ),
}  # fmt: skip


def tiny(model_type: str, **options):
    torch.manual_seed(0)
    core = AutoModelForImageTextToText.from_config(CONFIGS[model_type]())
    with torch.no_grad():
        for parameter in core.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.2 / parameter[0].numel() ** 0.5)
    core.generation_config.eos_token_id = 2
    processor = SimpleNamespace(
        tokenizer=TOKENIZER,
        image_token=IMAGE,
        image_processor=SimpleNamespace(
            do_resize=True, patch_size=14, merge_size=2, size={"shortest_edge": 784, "longest_edge": 7840}
        ),
    )
    return wrap_model(core, processor, ModelConfig(**options))


def prompts_of(policy) -> list[EncodedPrompt]:
    """Two prompts that show one image, one with another, one without."""
    generator = torch.Generator().manual_seed(2)

    def pixels(grid: tuple[int, int]) -> tuple[dict[str, torch.Tensor], int]:
        if "image_grid_thw" in policy.family.pixel_axes:
            values = torch.randn((grid[0] * grid[1], 3 * 2 * 14 * 14), generator=generator)
            return {"pixel_values": values, "image_grid_thw": torch.tensor([[1, *grid]])}, grid[0] * grid[1] // 4
        tiles = grid[0] // 2
        values = torch.randn((1, tiles, 3, 56, 56), generator=generator)
        return {"pixel_values": values, "pixel_attention_mask": torch.ones((1, tiles, 56, 56)).long()}, 4 * tiles

    def prompt(text: list[int], image: tuple[dict[str, torch.Tensor], int] | None) -> EncodedPrompt:
        inputs, count = image or ({}, 0)
        marks = [IDS[VISION_START], *[IDS[IMAGE]] * count, IDS[VISION_END]] if count else []
        ids = torch.tensor([1, *marks, *text])
        positions = policy.processor.positions(ids, inputs)
        return EncodedPrompt(input_ids_P=ids, pixel_inputs=inputs, text="", positions_AP=positions)

    first, second = pixels((4, 6)), pixels((2, 2))
    return [prompt([20, 30, 40], first), prompt([50], second), prompt([60, 70], None), prompt([21, 31], first)]


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_family_is_exact(model_type):
    policy = tiny(model_type)
    generator = torch.Generator().manual_seed(3)
    groups = [
        Group(
            prompt=prompt,
            completions=tuple(
                Completion(
                    tokens_T=torch.randint(10, 200, (length,), generator=generator),
                    logprobs_T=torch.zeros(length),
                    text="",
                    truncated=False,
                )
                for length in (6, 1, 3)[: 3 - n % 2]
            ),
        )
        for n, prompt in enumerate(prompts_of(policy))
    ]
    gradients = []
    for values in (
        packed_logprobs(policy, pack(groups, policy.family)),
        torch.cat([plain_logprobs(policy, group) for group in groups]),
    ):
        policy.model.zero_grad()
        (values * torch.linspace(-1, 2, len(values))).sum().backward()
        gradients.append(
            (values.detach(), {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None})
        )
    (packed, packed_gradients), (plain, plain_gradients) = gradients
    assert (packed - plain).abs().max() <= 1e-5
    assert plain.std() > 0.5  # a model that says the same everywhere would show nothing
    assert packed_gradients.keys() == plain_gradients.keys()
    assert {part_of(name, policy.family) for name in plain_gradients} == {"vision", "aligner", "language"}
    for name, theirs in plain_gradients.items():
        assert (packed_gradients[name] - theirs).norm() <= 1e-4 * theirs.norm() + 1e-6, name


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_family_samples_as_the_plain_path(model_type):
    sampling = SamplingConfig(group_size=3, max_new_tokens=6)
    results = []
    for packed in (True, False):
        policy = tiny(model_type, packed=packed)
        groups = rollout(policy, prompts_of(policy), sampling, seed=4)
        results.append([[completion.tokens_T.tolist() for completion in group.completions] for group in groups])
    assert results[0] == results[1]


def test_sliding_windows_are_refused():
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, **ROPE, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        vision_config=CONFIGS["qwen2_5_vl"]().vision_config.to_dict(),
        **MARKS,
    )
    with pytest.raises(UsageError, match=r"sliding.*model\.packed to false"):
        check_shared_prefix(config)
    assert check_shared_prefix(CONFIGS["qwen2_5_vl"]()) is None


def test_unknown_families_and_language_models_are_refused():
    with pytest.raises(UsageError, match=r"gemma3.*supported are idefics3"):
        family_of(Gemma3Config())
    config = Idefics3Config(text_config=AutoConfig.for_model("gpt_oss").to_dict(), vision_config=SIGLIP)
    with pytest.raises(UsageError, match=r"gpt_oss|sliding"):
        check_shared_prefix(config)


def test_dropout_in_attention_is_refused():
    config = CONFIGS["idefics3"]()
    config.text_config.attention_dropout = 0.1
    with pytest.raises(UsageError, match=r"attention_dropout is 0\.1"):
        check_shared_prefix(config)
