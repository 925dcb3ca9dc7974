"""Tiny random models in the layout of published repositories: what a person has on disk after a download.

``published_folder("qwen2_5_vl", path)`` writes the files, the names of the weights and the spelling of the settings
that the publishers' repositories have (``published_layouts.py``), and not what ``save_pretrained`` of today's
transformers would write: settings of older versions (``torch_dtype``, ``rope_scaling``, one flat ``config.json``),
images and chat template in files of their own, bfloat16 weights under the old names, in several shards with an index,
and no output layer where it is tied to the embeddings. Weights come from the library's model and get their published
names by the tables there, so that loading them shows the library's renaming to be right. Words are made of bytes: every
prompt can be asked.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_models
import torch
from byte_tokenizers import byte_fallback, byte_level
from published_layouts import PUBLISHED, Json, Layout
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText

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
