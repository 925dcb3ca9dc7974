"""The embedded model's shape and its start: a real ``Qwen2_5_VLForConditionalGeneration``, small."""

import math

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from curr_reft.data.shapes import SIDE
from curr_reft.embedded import tokenizer as words

PATCH, MERGE, TEMPORAL = 14, 2, 2
WIDTH = 128


def build_config() -> Qwen2_5_VLConfig:
    """1.3 million parameters; 84 x 84 pixels become 36 patches and 9 visual tokens."""
    ids = {token: i for i, token in enumerate(words.vocabulary())}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(ids),
            "hidden_size": WIDTH,
            "intermediate_size": 256,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            # The three sections of M-RoPE sum to half the head size.
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": None,
            "eos_token_id": ids[words.END],
            "pad_token_id": ids[words.PAD],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": WIDTH,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": TEMPORAL,
            "fullatt_block_indexes": [0, 1],
            "window_size": SIDE,
        },
        image_token_id=ids[words.IMAGE],
        video_token_id=ids[words.VIDEO],
        vision_start_token_id=ids[words.VISION_START],
        vision_end_token_id=ids[words.VISION_END],
        tie_word_embeddings=True,
    )


def build_model(seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """Fresh weights: std 1/sqrt(fan_in), half of it where a block writes to the residual stream."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(build_config())
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        fan_in = parameter[0].numel() if "embed_tokens" not in name else WIDTH
        scale = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")) else 1.0
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale / math.sqrt(fan_in))
    return model
