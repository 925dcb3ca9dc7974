"""How published repositories differ from what ``save_pretrained`` of today's transformers would write, by family.

The layouts are those of Qwen2-VL-2B, Qwen2.5-VL-3B, Qwen3-VL-2B, SmolVLM2-2.2B, InternVL3-1B-hf,
llava-onevision-qwen2-0.5b-ov-hf and gemma-3-4b-it, written from their documentation and from the conversion scripts and
renaming tables of transformers; the repositories themselves could not be opened here. ``checkpoints.py`` writes folders
of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tiny_models

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the repositories of a family differ from what the library writes today."""

    tokenizer: str  # class named in tokenizer_config.json
    tokens: tuple[str, ...]  # special ones, the padding token first
    end: str  # of an answer
    template: str  # chat template in jinja
    named: Json = field(default_factory=dict)  # more of tokenizer_config.json
    template_file: str = "chat_template.json"
    renamed: tuple[tuple[str, str], ...] = ()  # (pattern in today's name of a weight, what is published instead)
    config: Callable[[Json], Json]  # today's config.json -> the published one
    images: Json  # preprocessor_config.json
    processor: Json | None = None  # processor_config.json
    tied: bool = False  # the output layer is the embedding, and not in the files


def _turn(start: str, image: str, after: str, end: str, answer: str) -> str:
    """A chat template for turns of text and images; a system turn stands as it is given."""
    return (
        "{% for message in messages %}" + start + "{% if message['content'] is string %}{{ message['content'] }}"
        "{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}" + image + "{% else %}"
        "{{ part['text'] }}{% endif %}{% endfor %}{% endif %}" + end + after + "{% endfor %}"
        "{% if add_generation_prompt %}" + answer + "{% endif %}"
    )


_CHATML = "<|im_start|>{{ message['role'] }}\n"
_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)
_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_OLD_QWEN = ((r"^model\.visual\.", "visual."), (r"^model\.language_model\.", "model."))
_OLD_LLAVA = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.vision_tower\.", "vision_tower."),
    (r"^model\.", ""),
)
_SIGLIP = (*_OLD_LLAVA, (r"^vision_tower\.", "vision_tower.vision_model."))


def _flat_qwen(config: Json) -> Json:
    """Qwen2-VL and Qwen2.5-VL: the language model's settings at the top, rotary ones as ``rope_scaling``."""
    text, vision = dict(config["text_config"]), dict(config["vision_config"])
    rope = text.pop("rope_parameters")
    for drop in ("model_type", "layer_types", "head_dim", "pad_token_id"):
        text.pop(drop, None)
    vision.pop("rope_parameters", None)
    vision.pop("model_type", None)
    vision["in_chans"] = vision.pop("in_channels", 3)
    top = {key: value for key, value in config.items() if key not in ("text_config", "vision_config")}
    return {
        **top,
        **text,
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
        "vision_config": vision,
    }


def _nested_qwen(config: Json) -> Json:
    text = dict(config["text_config"])
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope["rope_theta"]
    text["rope_scaling"] = {
        "mrope_interleaved": True,
        "mrope_section": rope["mrope_section"],
        "rope_type": "default",
    }
    return {**config, "text_config": text}


def _with_old_rope(config: Json) -> Json:
    text = dict(config["text_config"])
    rope = text.pop("rope_parameters", None)
    if isinstance(rope, Mapping) and "rope_theta" in rope:
        text["rope_theta"] = rope["rope_theta"]
    elif rope is not None:
        text["rope_parameters"] = rope
    return {**config, "text_config": text}


def _gemma(config: Json) -> Json:
    text = dict(config["text_config"])
    text.pop("rope_parameters", None)  # the defaults of the class
    text.pop("layer_types", None)
    text["sliding_window_pattern"] = 2
    return {**config, "text_config": text}


def _qwen_images(kind: str, processor: str, patch: int = tiny_models.PATCH, **size: Any) -> Json:
    return {
        **size,
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": kind,
        "processor_class": processor,
    }


_EDGE = tiny_models.EDGE
_SQUARE = {"height": _EDGE, "width": _EDGE}
_HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392156862745098}
_STEPS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True}
_PIXELS = {"min_pixels": 28 * 28, "max_pixels": 112 * 112}

PUBLISHED: dict[str, Layout] = {
    "qwen2_vl": Layout(
        tokenizer="Qwen2Tokenizer",
        tokens=_QWEN_TOKENS,
        end="<|im_end|>",
        template=_SYSTEM + _turn(_CHATML, _QWEN_IMAGE, "\n", "<|im_end|>", "<|im_start|>assistant\n"),
        renamed=_OLD_QWEN,
        config=_flat_qwen,
        images=_qwen_images("Qwen2VLImageProcessor", "Qwen2VLProcessor", **_PIXELS),
        tied=True,
    ),
    "qwen2_5_vl": Layout(
        tokenizer="Qwen2Tokenizer",
        tokens=_QWEN_TOKENS,
        end="<|im_end|>",
        template=_SYSTEM + _turn(_CHATML, _QWEN_IMAGE, "\n", "<|im_end|>", "<|im_start|>assistant\n"),
        renamed=_OLD_QWEN,
        config=_flat_qwen,
        images=_qwen_images("Qwen2VLImageProcessor", "Qwen2_5_VLProcessor", **_PIXELS),
        tied=True,
    ),
    "qwen3_vl": Layout(
        tokenizer="Qwen2Tokenizer",
        tokens=_QWEN_TOKENS,
        end="<|im_end|>",
        template=_turn(_CHATML, _QWEN_IMAGE, "\n", "<|im_end|>", "<|im_start|>assistant\n"),
        config=_nested_qwen,
        images=_qwen_images(
            "Qwen2VLImageProcessorFast",
            "Qwen3VLProcessor",
            size={"longest_edge": 112 * 112, "shortest_edge": 28 * 28},
        ),
        tied=True,
    ),
    "smolvlm": Layout(
        tokenizer="GPT2Tokenizer",
        tokens=(
            "<|im_end|>",
            "<|im_start|>",
            "<end_of_utterance>",
            "<fake_token_around_image>",
            "<image>",
            "<global-img>",
            *tiny_models.TILES,
        ),
        end="<end_of_utterance>",
        template="<|im_start|>"
        + _turn(
            "{{ message['role'] | capitalize }}:{% if message['content'][0]['type'] != 'image' %} {% endif %}",
            "<image>",
            "\n",
            "<end_of_utterance>",
            "Assistant:",
        ),
        config=_with_old_rope,
        images={
            **_HALF,
            **_STEPS,
            "do_image_splitting": True,
            "do_pad": True,
            "image_processor_type": "SmolVLMImageProcessor",
            "max_image_size": {"longest_edge": _EDGE},
            "processor_class": "SmolVLMProcessor",
            "resample": 1,
            "size": {"longest_edge": 2 * _EDGE},
        },
        processor={"image_seq_len": tiny_models.VISION_TOKENS // 4, "processor_class": "SmolVLMProcessor"},
    ),
    "internvl": Layout(
        tokenizer="Qwen2Tokenizer",
        tokens=(*_QWEN_TOKENS[:3], "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        end="<|im_end|>",
        template=_turn(_CHATML, "<IMG_CONTEXT>\n", "\n", "<|im_end|>", "<|im_start|>assistant\n"),
        named=tiny_models.NAMED["internvl"],
        template_file="chat_template.jinja",
        renamed=_OLD_LLAVA,
        config=_with_old_rope,
        images={
            **_STEPS,
            "crop_to_patches": False,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "max_patches": 4,
            "min_patches": 1,
            "processor_class": "InternVLProcessor",
            "resample": 3,
            "size": _SQUARE,
        },
        processor={"image_seq_length": tiny_models.VISION_TOKENS // 4, "processor_class": "InternVLProcessor"},
    ),
    "llava_onevision": Layout(
        tokenizer="Qwen2Tokenizer",
        tokens=(*_QWEN_TOKENS[:3], "<image>", "<video>"),
        end="<|im_end|>",
        template=_turn("<|im_start|>{{ message['role'] }} ", "<image>\n", "", "<|im_end|>", "<|im_start|>assistant\n"),
        renamed=_SIGLIP,
        config=_with_old_rope,
        images={
            **_HALF,
            **_STEPS,
            "do_pad": True,
            "image_grid_pinpoints": tiny_models.GRID,
            "image_processor_type": "LlavaOnevisionImageProcessor",
            "processor_class": "LlavaOnevisionProcessor",
            "resample": 3,
            "size": _SQUARE,
        },
        processor={
            "image_token": "<image>",
            "num_image_tokens": tiny_models.VISION_TOKENS,
            "processor_class": "LlavaOnevisionProcessor",
            "video_token": "<video>",
            "vision_feature_select_strategy": "full",
        },
    ),
    "gemma3": Layout(
        tokenizer="GemmaTokenizer",
        tokens=(
            "<pad>",
            "<eos>",
            "<bos>",
            "<unk>",
            "<mask>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
            "<image_soft_token>",
        ),
        end="<end_of_turn>",
        template="{{ bos_token }}"
        + _turn(
            "<start_of_turn>{{ message['role'] }}\n",
            "<start_of_image>",
            "\n",
            "<end_of_turn>",
            "<start_of_turn>model\n",
        ),
        named=tiny_models.NAMED["gemma"],
        renamed=_SIGLIP,
        config=_gemma,
        images={
            **_HALF,
            **_STEPS,
            "do_pan_and_scan": None,
            "image_processor_type": "Gemma3ImageProcessor",
            "image_seq_length": tiny_models.VISION_TOKENS // 4,
            "processor_class": "Gemma3Processor",
            "resample": 2,
            "size": _SQUARE,
        },
        processor={"image_seq_length": tiny_models.VISION_TOKENS // 4, "processor_class": "Gemma3Processor"},
        tied=True,
    ),
}
"""By ``model_type``."""
