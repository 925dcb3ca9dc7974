"""Qwen2.5-VL-3B with random weights: what is measured on a GPU, and the same class at toy size for the tests.

The numbers are those of the config.json of Qwen/Qwen2.5-VL-3B-Instruct. Only the ids of special tokens are others: the
tokenizer is one of our own with a word for every id, since no cost depends on what a token means.
"""

from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from curr_reft.bench.subject import tokens_of
from curr_reft.embedded.tokenizer import END, IMAGE, PAD, VIDEO, VISION_END, VISION_START


def real_config(layers: int = 36, vision_layers: int = 32) -> Qwen2_5_VLConfig:
    """The 3B model, or its first layers at full width."""
    return _config(
        text={
            "vocab_size": 151_936,
            "hidden_size": 2048,
            "intermediate_size": 11_008,
            "num_hidden_layers": layers,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128_000,
        },
        mrope_section=[16, 24, 24],
        vision={
            "depth": vision_layers,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 2048,
            # The last of every eight layers sees the whole image; of a cut tower, its last one.
            "fullatt_block_indexes": [each for each in (7, 15, 23, 31) if each < vision_layers] or [vision_layers - 1],
        },
    )


def small_config(layers: int = 3, vision_layers: int = 2) -> Qwen2_5_VLConfig:
    """The same at a size for which a CPU is enough."""
    return _config(
        text={
            "vocab_size": 4096,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
        },
        mrope_section=[2, 3, 3],
        vision={
            "depth": vision_layers,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 4,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [vision_layers - 1],
        },
    )


def build_random(
    config: Qwen2_5_VLConfig, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> Qwen2_5_VLForConditionalGeneration:
    """The model with weights drawn on ``device`` itself: no copy of it ever stands in the memory of the host."""
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = config.get_text_config().eos_token_id
    return model


def _config(text: dict[str, Any], mrope_section: list[int], vision: dict[str, Any]) -> Qwen2_5_VLConfig:
    ids = {token: number for number, token in enumerate(tokens_of(text["vocab_size"]))}
    return Qwen2_5_VLConfig(
        text_config={
            **text,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": mrope_section},
            "rms_norm_eps": 1e-6,
            "bos_token_id": None,
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
            "tie_word_embeddings": True,
        },
        vision_config={
            **vision,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )
