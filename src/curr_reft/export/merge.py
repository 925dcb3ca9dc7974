"""``curr-reft merge``: a model as a plain folder that transformers and inference engines load.

The folder has the files of the base model, and weights under the names and in the shapes of the base's, in shards of at
most 5 GB. An adapter is added in float32 and rounded once. Nothing is overwritten; a folder is whole or not there.

Refused are weights that are NaN or infinite, and an adapter that leaves every weight of its base as it is.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming, rename_source_key
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
PEFT_PREFIX = "base_model.model."  # of every name in an adapter's file


@dataclass(frozen=True, kw_only=True)
class _Whole:
    """A model in memory, about to be written."""

    core: Any
    state: dict[str, torch.Tensor] | None  # its weights where they are not those of ``core``
    weights: Path  # the folder they were read from
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
    _require_finite(whole.state or whole.core.state_dict(), whole.weights)
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
    core = _load(source.weights)
    return _Whole(
        core=core,
        state=None,
        weights=source.weights,
        base=base,
        pixels=source.pixels,
        card=export_card(read_run(source.run), source.name, core.config.model_type),
    )


def _of_adapter(source: Adapter) -> _Whole:
    base = base_folder(source.base, source.revision, weights=True)
    core = _load(base)
    model = _with_adapter(core, source)
    state = _without_repeats(model.get_base_model())
    _require_change(source, core, state)
    return _Whole(
        core=core,
        state=state,
        weights=base,
        base=base,
        pixels={},
        card=adapter_card(source.base, source.settings, core.config.model_type),
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


def _require_finite(weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Raises CheckpointError that names the tensor and the file, where the files of ``folder`` hold it already."""
    bad = _first_not_finite(weights.items())
    if bad is None:
        return
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            found = _first_not_finite((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
        if found is not None:
            raise CheckpointError(f"{path}: {found} holds NaN or infinite values; no model is made of it")
    raise CheckpointError(
        f"the merged weight {bad} holds NaN or infinite values, though base and adapter do not: the sum is too large "
        "for the number type of the base; its training diverged, or the base must be in float32 (--base)"
    )


def _first_not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """The name of the first tensor with a NaN or an infinity."""
    for name, tensor in tensors:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            return name
    return None


def _require_change(source: Adapter, core: Any, merged: Mapping[str, torch.Tensor]) -> None:
    """Raises UsageError where every merged weight is that of the base, bit for bit."""
    before = {name.replace(".base_layer.", "."): value for name, value in core.state_dict().items()}
    if all(torch.equal(value, before[name]) for name, value in merged.items()):
        raise UsageError(
            f"{source.folder}: the adapter changes no weight of {source.base}, so that the merged model would be the "
            "base: it is untrained (every lora_B is 0), or its changes are below the precision of the base; name an "
            "adapter of a later checkpoint, or a base in float32 with --base"
        )


def _with_adapter(core: Any, source: Adapter) -> Any:
    """The model with the adapter on it, every weight of which found its place. Raises UsageError, CheckpointError."""
    try:
        from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    except ImportError as error:
        raise UsageError("an adapter needs the peft library: pip install 'curr-reft[lora]'") from error
    from peft.tuners.lora import Linear, LoraLayer

    try:
        weights = load_file(source.folder / ADAPTER_WEIGHTS)
        bad = _first_not_finite(weights.items())
        if bad is not None:
            raise CheckpointError(
                f"{source.folder / ADAPTER_WEIGHTS}: {bad} holds NaN or infinite values; its training diverged, merge "
                "an adapter of an earlier checkpoint"
            )
        config = PeftConfig.from_pretrained(str(source.folder))
        weights = _named_as(core, weights, config)
        model = get_peft_model(core, config)
        result: Any = set_peft_model_state_dict(model, weights)
    except (OSError, RuntimeError, ValueError, TypeError, SafetensorError) as error:
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


def _named_as(core: Any, weights: Mapping[str, torch.Tensor], config: Any) -> dict[str, torch.Tensor]:
    """The adapter's ``weights`` under the names that ``core`` has for its modules; ``config`` follows.

    transformers 4.52 and 5 renamed modules of vision-language models, and adapters hold the names of their time. The
    library's table for the weights of a base says what became of a name. A name that stays unknown is left as it is.
    """
    modules = {name for name, _ in core.named_modules()}
    conversions = get_model_conversion_mapping(core, add_legacy=False)
    renamings = [each for each in conversions if isinstance(each, WeightRenaming)]

    def today(module: str) -> str:
        new = module if module in modules else rename_source_key(f"{module}.weight", renamings, [])[0]
        return new.removesuffix(".weight") if new.removesuffix(".weight") in modules else module

    named: dict[str, torch.Tensor] = {}
    renamed: dict[str, str] = {}
    for name, value in weights.items():
        module, mark, rest = name.removeprefix(PEFT_PREFIX).partition(".lora_")
        if mark:
            renamed[module] = today(module)
        named[f"{PEFT_PREFIX}{renamed[module]}{mark}{rest}" if mark else name] = value
    if all(old == new for old, new in renamed.items()):
        return named
    targets = config.target_modules
    if isinstance(targets, str) or config.exclude_modules or any("." in each for each in targets or ()):
        # A pattern or a path in names of the adapter's time; bare names of layers hold at all times.
        config.target_modules, config.exclude_modules = set(renamed.values()), None
    for kind in ("rank_pattern", "alpha_pattern"):
        patterns = getattr(config, kind) or {}
        found: dict[str, Any] = {}
        for old, new in renamed.items():  # by the first pattern that matches, as peft does
            found |= next(({new: value} for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", old)), {})
        setattr(config, kind, found)
    return named
