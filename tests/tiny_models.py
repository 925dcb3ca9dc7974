"""A tiny model of every family with random weights, as a folder with a real processor: what a user's folder holds.

Nothing is downloaded. Two images of a prompt become different numbers of tokens wherever the family allows it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3Processor,
    Idefics3Config,
    InternVLConfig,
    LlavaNextConfig,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3_5Config,
    Qwen3VLConfig,
    SmolVLMConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from curr_reft.embedded.tokenizer import PATTERN, SPECIAL, vocabulary
from curr_reft.policy.image_text import ImageTextProcessor, InternVLImages, LlavaOnevisionImages, TileProcessor

PAD, START, END, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
TILES = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
WORDS = [word for word in vocabulary() if word not in SPECIAL]
EDGE, PATCH = 56, 14  # of a tile: 16 patches
GRID = [[56, 56], [56, 112], [112, 56], [112, 112]]
VISION_TOKENS = EDGE**2 // PATCH**2

MARKS = {
    "qwen": ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"],
    "idefics": ["<image>", "<fake_token_around_image>", "<global-img>", *TILES],
    "internvl": ["<IMG_CONTEXT>", "<img>", "</img>", "<video>"],
    "llava": ["<image>", "<video>"],
    "gemma": ["<start_of_image>", "<end_of_image>", "<image_soft_token>"],
}
PLACEHOLDER = {  # of an image in the chat template
    "qwen": "<|vision_start|><|image_pad|><|vision_end|>",
    "idefics": "<image>",
    "internvl": "<IMG_CONTEXT>",
    "llava": "<image>",
    "gemma": "<start_of_image>",
}
NAMED = {
    "internvl": {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    "gemma": {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
}


def build_tokenizer(style: str) -> PreTrainedTokenizerFast:
    """The embedded model's words, so that the questions of drawn scenes can be asked, and the family's own marks."""
    tokens = [PAD, START, END, UNKNOWN, *MARKS[style], *WORDS]
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        extra_special_tokens=[START, *MARKS[style]],
        model_specific_special_tokens=NAMED.get(style, {}),
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    tokenizer.chat_template = (
        "{% for message in messages %}" + START + "user\n{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + PLACEHOLDER[style] + "{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant\n{% endif %}"
    )
    return tokenizer


TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
PATCHES = {"depth": 2, "num_heads": 2, "patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": EDGE,
    "patch_size": PATCH,
}


def _qwen(make: type[PretrainedConfig], vision: dict[str, Any], text: dict[str, Any] | None = None) -> Any:
    def config(ids: dict[str, int]) -> Any:
        return make(
            text_config={**TEXT, **(text or MROPE), "vocab_size": len(ids)},
            vision_config={**PATCHES, **vision},
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )

    return config


def _idefics(make: type[PretrainedConfig]) -> Any:
    return lambda ids: make(
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(ids)},
        vision_config=TOWER,
        image_token_id=ids["<image>"],
        scale_factor=2,
    )


MERGED = {"hidden_size": 32, "intermediate_size": 48, "out_hidden_size": 64}
LINEAR = {  # of Qwen3.5: two recurrent layers, then one of attention
    "rope_parameters": {**MROPE["rope_parameters"], "mrope_interleaved": True, "partial_rotary_factor": 1.0},
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
CONFIGS: dict[str, Callable[[dict[str, int]], Any]] = {
    "qwen2_vl": _qwen(Qwen2VLConfig, {"embed_dim": 32, "hidden_size": 64}),
    "qwen2_5_vl": _qwen(Qwen2_5_VLConfig, {**MERGED, "window_size": 56, "fullatt_block_indexes": [1]}),
    "qwen3_vl": _qwen(Qwen3VLConfig, {**MERGED, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}),
    "qwen3_5": _qwen(Qwen3_5Config, {**MERGED, "num_position_embeddings": 64}, LINEAR),
    "idefics3": _idefics(Idefics3Config),
    "smolvlm": _idefics(SmolVLMConfig),
    "internvl": lambda ids: InternVLConfig(
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(ids)},
        vision_config={**TOWER, "image_size": [EDGE, EDGE], "patch_size": [PATCH, PATCH]},
        image_token_id=ids["<IMG_CONTEXT>"],
        image_seq_length=VISION_TOKENS // 4,
        tie_word_embeddings=False,
    ),
    "llava_next": lambda ids: LlavaNextConfig(
        text_config={**TEXT, "model_type": "mistral", "sliding_window": None, "vocab_size": len(ids)},
        vision_config={**TOWER, "model_type": "clip_vision_model"},
        image_token_index=ids["<image>"],
        image_grid_pinpoints=GRID[1:],
    ),
    "llava_onevision": lambda ids: LlavaOnevisionConfig(
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(ids)},
        vision_config={**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        image_grid_pinpoints=GRID,
    ),
    "gemma3": lambda ids: Gemma3Config(
        text_config={
            **TEXT,
            "vocab_size": len(ids),
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        vision_config={**TOWER, "vision_use_head": False},
        mm_tokens_per_image=VISION_TOKENS // 4,
        image_token_id=ids["<image_soft_token>"],
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
    ),
}
EXACT = ("idefics3", "internvl", "llava_next", "llava_onevision", "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "smolvlm")
"""Families that may share prompts; the others of ``CONFIGS`` are for the plain path alone."""


def style_of(model_type: str) -> str:
    """The marks that a family puts around an image."""
    named = {"smolvlm": "idefics", "idefics3": "idefics", "internvl": "internvl", "gemma3": "gemma"}
    return named.get(model_type, "llava" if model_type.startswith("llava") else "qwen")


def build_processor(model_type: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The family's real processor with its image processor on PIL."""
    template = tokenizer.chat_template
    square = {"height": EDGE, "width": EDGE}
    if model_type in ("idefics3", "smolvlm"):
        make = {"idefics3": Idefics3ImageProcessorPil, "smolvlm": SmolVLMImageProcessorPil}[model_type]
        images = make(size={"longest_edge": 2 * EDGE}, max_image_size={"longest_edge": EDGE})
        processor = TileProcessor(images, tokenizer, image_seq_len=VISION_TOKENS // 4, chat_template=template)
        processor.model_type = model_type
        return processor
    if model_type == "internvl":
        images = GotOcr2ImageProcessorPil(size=square, min_patches=1, max_patches=4)
        return InternVLImages(images, tokenizer, image_seq_length=VISION_TOKENS // 4, chat_template=template)
    if model_type == "llava_next":
        images = LlavaNextImageProcessorPil(
            size={"shortest_edge": EDGE}, crop_size=square, image_grid_pinpoints=GRID[1:]
        )
        return LlavaNextProcessor(
            images,
            tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,  # of CLIP's class token
            chat_template=template,
        )
    if model_type == "llava_onevision":
        images = LlavaOnevisionImageProcessorPil(size=square, image_grid_pinpoints=GRID)
        return LlavaOnevisionImages(
            images,
            tokenizer,
            num_image_tokens=VISION_TOKENS,
            vision_feature_select_strategy="full",
            chat_template=template,
        )
    if model_type == "gemma3":
        images = Gemma3ImageProcessorPil(size=square)
        return Gemma3Processor(images, tokenizer, image_seq_length=VISION_TOKENS // 4, chat_template=template)
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=112 * 112, patch_size=PATCH)
    processor = ImageTextProcessor(images, tokenizer, chat_template=template)
    processor.model_type = model_type
    return processor


def build_folder(folder: Path, model_type: str, change: Callable[[Any], None] = lambda config: None) -> Path:
    """Model and processor in ``folder``, ready for ``load_policy``. ``change`` may edit the configuration."""
    tokenizer = build_tokenizer(style_of(model_type))
    config = CONFIGS[model_type](tokenizer.get_vocab())
    change(config)
    torch.manual_seed(0)
    core = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():  # far from uniform, so that a wrong position or a wrong token shows
        for parameter in core.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.2 / parameter[0].numel() ** 0.5)
    core.generation_config.eos_token_id = 2
    core.save_pretrained(folder)
    build_processor(model_type, tokenizer).save_pretrained(folder)
    return folder
