"""Tiny random models in the layout of published repositories: what a person has on disk after a download.

``published_folder("qwen2_5_vl", path)`` writes the files, the names of the weights and the spelling of the settings
that the publishers' repositories have, and not what ``save_pretrained`` of today's transformers would write: settings
of older versions (``torch_dtype``, ``rope_scaling``, one flat ``config.json``), images and chat template in files of
their own, bfloat16 weights under the old names, in several shards with an index, and no output layer where it is tied
to the embeddings. Weights come from the library's model and get their published names by the tables below, so that
loading them shows the library's renaming to be right. Words are made of bytes: every prompt can be asked.

The layouts are those of Qwen2-VL-2B, Qwen2.5-VL-3B, Qwen3-VL-2B, SmolVLM2-2.2B, InternVL3-1B-hf,
llava-onevision-qwen2-0.5b-ov-hf and gemma-3-4b-it, written from their documentation and from the conversion scripts and
renaming tables of transformers; the repositories themselves could not be opened here.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiny_models
import torch
from byte_tokenizers import byte_fallback, byte_level
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText

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

SHARD_BYTES = 200_000
"""Small, so that every model here has several."""


def published_folder(family: str, path: Path, change: Callable[[Json], None] = lambda config: None) -> Path:
    """A tiny random model of ``family`` (a key of ``PUBLISHED``) in ``path``, as its publisher's repository looks.

    ``load_policy(ModelConfig(path=str(path)))`` opens it; ``gemma3`` needs ``packed: false``. ``change`` may edit the
    published ``config.json``. The same family gives the same weights every time.
    """
    layout = PUBLISHED[family]
    path.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(layout, path)
    made = tiny_models.CONFIGS[family](ids)
    made.tie_word_embeddings = made.get_text_config().tie_word_embeddings = layout.tied
    made.get_text_config().max_position_embeddings = 8192
    made.get_text_config().eos_token_id = ids[layout.end]
    torch.manual_seed(0)
    core = AutoModelForImageTextToText.from_config(made)
    with torch.no_grad():  # far from uniform, so that a weight at a wrong place shows
        for parameter in core.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.2 / parameter[0].numel() ** 0.5)
    write_weights(core, layout, path)
    config = layout.config(_to_json(core.config))
    config.pop("dtype", None)
    config |= {
        "architectures": [type(core).__name__],
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": layout.tied,
        "transformers_version": "4.49.0",
    }
    change(config)
    _write(path / "config.json", config)
    _write(path / "preprocessor_config.json", layout.images)
    if layout.processor is not None:
        _write(path / "processor_config.json", layout.processor)
    pad = ids[layout.tokens[0]]
    _write(
        path / "generation_config.json",
        {"eos_token_id": sorted({ids[layout.end], pad}), "pad_token_id": pad, "transformers_version": "4.49.0"},
    )
    return path


def _to_json(config: Any) -> Json:
    """Settings without the library's own notes of today."""
    made: Json = json.loads(config.to_json_string())
    return {key: value for key, value in made.items() if key not in ("architectures", "transformers_version")}


def write_weights(core: Any, layout: Layout, path: Path) -> None:
    """bfloat16 shards under the published names, and their index."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    for name, tensor in core.state_dict().items():
        if layout.tied and name == "lm_head.weight":
            continue
        for pattern, replacement in layout.renamed:
            name = re.sub(pattern, replacement, name)
        tensor = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        if sum(each.nbytes for each in shards[-1].values()) + tensor.nbytes > SHARD_BYTES and shards[-1]:
            shards.append({})
        shards[-1][name] = tensor.clone()
    assert len(shards) > 1
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, path / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    _write(path / "model.safetensors.index.json", index)


def _write_tokenizer(layout: Layout, path: Path) -> dict[str, int]:
    """tokenizer.json, tokenizer_config.json, special_tokens_map.json and the chat template. Returns the vocabulary."""
    spell = byte_fallback if layout.tokenizer == "GemmaTokenizer" else byte_level
    core = spell(layout.tokens)
    core.save(str(path / "tokenizer.json"))
    vocabulary: dict[str, int] = core.get_vocab()
    if layout.tokenizer in ("Qwen2Tokenizer", "GPT2Tokenizer"):
        model = json.loads(core.to_str())["model"]
        _write(path / "vocab.json", model["vocab"])
        lines = [" ".join(merge) for merge in model["merges"]]
        (path / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n", encoding="utf-8")
    named = {
        "bos_token": "<bos>" if "<bos>" in vocabulary else None,
        "eos_token": "<eos>" if "<eos>" in vocabulary else layout.end,
        "pad_token": layout.tokens[0],
        "unk_token": "<unk>" if "<unk>" in vocabulary else None,
    }
    settings = {
        **named,
        **layout.named,
        "added_tokens_decoder": {
            str(vocabulary[token]): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for token in layout.tokens
        },
        "additional_special_tokens": [token for token in layout.tokens if token not in named.values()],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131072,
        "processor_class": layout.images["processor_class"],
        "tokenizer_class": layout.tokenizer,
    }
    if layout.tokenizer == "GemmaTokenizer":
        settings |= {"add_bos_token": True, "add_eos_token": False}
    if layout.named:
        settings["extra_special_tokens"] = layout.named
    _write(path / "tokenizer_config.json", settings)
    _write(path / "special_tokens_map.json", {key: value for key, value in named.items() if value})
    if layout.template_file.endswith(".json"):
        _write(path / layout.template_file, {"chat_template": layout.template})
    else:
        (path / layout.template_file).write_text(layout.template, encoding="utf-8")
    return vocabulary


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
