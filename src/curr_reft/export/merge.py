"""``curr-reft merge``: a model as a plain folder that transformers and inference engines load.

The folder has the files of the base model, and weights under the names and in the shapes of the base's, in shards of at
most 5 GB. An adapter is added in float32 and rounded once. Nothing is overwritten; a folder is whole or not there.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from curr_reft.errors import CheckpointError, UsageError
from curr_reft.export.base import CARD, base_folder, check_layout, complete
from curr_reft.export.source import ADAPTER_WEIGHTS, Adapter, RunModel
from curr_reft.files import reporting_full_disk, sync_tree
from curr_reft.policy.adapters import merged_state
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_policy
from curr_reft.report.card import adapter_card, export_card
from curr_reft.report.read import read_run

SHARD = "5GB"


@dataclass(frozen=True, kw_only=True)
class _Whole:
    """A model in memory, about to be written."""

    core: Any
    state: dict[str, torch.Tensor] | None  # its weights where they are not those of ``core``
    base: Path
    pixels: dict[str, int]
    card: str


def merge(source: RunModel | Adapter, out: Path) -> list[Path]:
    """Writes the model of ``source`` to the folder ``out``; the files there.

    Raises UsageError for an ``out`` that is there, CheckpointError for weights that do not fit, DiskFullError.
    """
    if out.exists():
        raise UsageError(f"--out {out} is there already and is not overwritten; name a new folder, or remove it")
    transformers_logging.disable_progress_bar()
    whole = _of_run(source) if isinstance(source, RunModel) else _of_adapter(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}-{os.getpid()}")
    try:
        with reporting_full_disk(out):
            aside.mkdir()
            whole.core.save_pretrained(aside, state_dict=whole.state, max_shard_size=SHARD)
            dtype = str(next(whole.core.parameters()).dtype).removeprefix("torch.")
            complete(aside, whole.base, dtype, whole.pixels)
            (aside / CARD).write_text(whole.card, encoding="utf-8")
            check_layout(aside, whole.base)
            sync_tree(aside)
        aside.rename(out)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return sorted(out.iterdir())


def _of_run(source: RunModel) -> _Whole:
    """A run publishes whole models: what is left to do is the layout and the files of the base."""
    base = base_folder(source.base, source.revision, weights=False)
    return _Whole(
        core=_load(source.weights),
        state=None,
        base=base,
        pixels=source.pixels,
        card=export_card(read_run(source.run), source.name),
    )


def _of_adapter(source: Adapter) -> _Whole:
    base = base_folder(source.base, source.revision, weights=True)
    core = _load(base)
    model = _with_adapter(core, source)
    return _Whole(
        core=core,
        state=_without_repeats(model.get_base_model()),
        base=base,
        pixels={},
        card=adapter_card(source.base, source.settings),
    )


def _without_repeats(core: Any) -> dict[str, torch.Tensor]:
    """The merged weights without those that are another one under a second name (an output layer that is tied)."""
    places: set[int] = set()
    repeated = set()
    for name, value in core.state_dict().items():
        if value.data_ptr() in places:
            repeated.add(name.replace(".base_layer.", "."))
        places.add(value.data_ptr())
    return {name: value for name, value in merged_state(core).items() if name not in repeated}


def _load(folder: Path) -> Any:
    """The model in the number type it is stored in, strictly: no weight missing or too many."""
    config = ModelConfig(path=str(folder), dtype="auto", device="cpu", packed=False, image_threads=0)
    return load_policy(config).core


def _with_adapter(core: Any, source: Adapter) -> Any:
    """The model with the adapter on it, every weight of which found its place. Raises UsageError, CheckpointError."""
    try:
        from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    except ImportError as error:
        raise UsageError("an adapter needs the peft library: pip install 'curr-reft[lora]'") from error
    from peft.tuners.lora import Linear, LoraLayer
    from safetensors.torch import load_file

    try:
        model = get_peft_model(core, PeftConfig.from_pretrained(str(source.folder)))
        result: Any = set_peft_model_state_dict(model, load_file(source.folder / ADAPTER_WEIGHTS))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{source.folder}: the adapter does not fit {source.base}: {error}") from error
    absent = [name for name in result.missing_keys if "lora_" in name]
    if absent or result.unexpected_keys:
        wrong = [*absent, *result.unexpected_keys]
        raise CheckpointError(
            f"{source.folder}: the adapter does not fit {source.base}: {', '.join(wrong[:3])} ({len(wrong)}); is it "
            "the model it was trained on? Name that with --base"
        )
    others = [name for name, each in model.named_modules() if isinstance(each, LoraLayer) and type(each) is not Linear]
    if others:
        raise UsageError(
            f"{source.folder}: {others[0]} is no linear layer; merge the adapter with peft's own merge_and_unload"
        )
    head = core.get_output_embeddings()
    if isinstance(head, LoraLayer) and core.config.get_text_config().tie_word_embeddings:
        raise UsageError(
            f"{source.folder}: the adapter changes an output layer that is tied to the embeddings, which one weight "
            "cannot hold; merge it with peft's own merge_and_unload"
        )
    return model
