"""Checkpoints of a stage: safetensors and JSON in a folder that is complete or not there.

A checkpoint is written into a folder beside its place, every file synced, the manifest with sizes and hashes last, and
then renamed. Pickle is neither written nor read. What a finished stage hands on is in ``publish.py``.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from curr_reft.errors import CheckpointError, DamagedError
from curr_reft.files import (
    read_json,
    reporting_full_disk,
    require_space,
    sync_file,
    sync_folder,
    write_json,
)
from curr_reft.integrity import damaged_file, read_sealed, table_of, write_sealed

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
STATE = "state.json"
OPTIMIZER = "optimizer"  # name of the tensors that are of no use once a training is over
_STEP = re.compile(r"step-(\d{6,})")
_SLACK = 1 << 16  # headers, JSON files, folder entries


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose files were found to have the sizes and hashes of its manifest."""

    path: Path
    step: int


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What ``save_checkpoint`` was given."""

    step: int
    tensors: dict[str, dict[str, torch.Tensor]]  # CPU; file name without ending -> tensor name -> tensor
    state: dict[str, Any]
    retired: bool = False  # its training was over: the optimizer is gone


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of ``step`` is."""
    return folder / f"step-{step:06d}"


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any]
) -> Path:
    """Save ``tensors`` (one safetensors file for each name) and ``state`` (JSON) as the checkpoint of ``step``.

    Tensors that share memory (tied embeddings) are stored once. An earlier checkpoint of the same step is replaced.
    Raises DiskFullError; the earlier checkpoints are then untouched.
    """
    target = step_folder(folder, step)
    folder.mkdir(parents=True, exist_ok=True)
    unique = {name: _unique_tensors(group) for name, group in tensors.items()}
    needed = _SLACK + sum(tensor.nbytes for group, _ in unique.values() for tensor in group.values())
    require_space(target, needed)
    aside = folder / f".tmp-{target.name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with reporting_full_disk(target, needed):
            aside.mkdir()
            for name, (group, aliases) in unique.items():
                save_file(group, aside / f"{name}.safetensors", metadata={"aliases": json.dumps(aliases)})
                sync_file(aside / f"{name}.safetensors")
            write_json(aside / STATE, dict(state))
            write_manifest(aside, step, file_table(aside))
            sync_folder(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    move_into_place(aside, target)
    return target


def last_complete(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None. Damaged newer ones are set aside, with one warning for all.

    Leftovers of saves that were cut off are removed.
    """
    _clean(folder)
    complaints = []
    found = None
    for step in sorted(steps(folder), reverse=True):
        path = step_folder(folder, step)
        problem = damage(path)
        if problem is None:
            found = Checkpoint(path=path, step=step)
            break
        complaints.append(problem)
        # Set aside, not counted by prune: else a damaged newest one could push out the last that is whole.
        aside = folder / f".damaged-{path.name}"
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    if complaints:
        way = f"going back to {found.path.name}" if found else "no whole checkpoint is left, starting the stage again"
        logger.warning("damaged checkpoint: %s; %s", "; ".join(complaints), way)
    return found


def at_step(folder: Path, step: int) -> Checkpoint:
    """The checkpoint of ``step``, its files verified. Raises CheckpointError naming the file that is wrong."""
    path = step_folder(folder, step)
    problem = damage(path)
    if problem is not None:
        raise CheckpointError(f"damaged checkpoint: {problem}; remove {folder.parent} and go on with --resume")
    return Checkpoint(path=path, step=step)


def load(checkpoint: Checkpoint, only: Collection[str] | None = None) -> Loaded:
    """The tensors and the state. Tensors stored once come back as one tensor under all their names.

    With ``only``, no other tensors than these are read: an optimizer takes four times the memory of bfloat16 weights.
    Raises CheckpointError.
    """
    try:
        manifest = read_json(checkpoint.path / MANIFEST)
        state = read_json(checkpoint.path / STATE)
        names = [name.removesuffix(".safetensors") for name in manifest["files"] if name.endswith(".safetensors")]
        wanted = [name for name in names if only is None or name in only]
        tensors = {name: _read_tensors(checkpoint.path / f"{name}.safetensors") for name in wanted}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{checkpoint.path} cannot be read: {error}; choose an earlier checkpoint") from error
    return Loaded(step=checkpoint.step, tensors=tensors, state=state, retired=manifest.get("retired", False))


def prune(folder: Path, keep_last: int, keep_steps: Collection[int] = ()) -> None:
    """Remove all but the newest ``keep_last`` checkpoints and those of ``keep_steps``; damaged ones go too."""
    ordered = sorted(steps(folder))
    for step in ordered[: max(0, len(ordered) - keep_last)]:
        if step not in keep_steps:
            # Renamed first: a kill inside rmtree must not leave a folder that looks like a checkpoint.
            dying = folder / f".tmp-old-step-{step:06d}"
            shutil.rmtree(dying, ignore_errors=True)
            step_folder(folder, step).rename(dying)
            shutil.rmtree(dying, ignore_errors=True)
    for path in folder.glob(".damaged-*"):
        shutil.rmtree(path, ignore_errors=True)


def retire(folder: Path, keep_last: int, chosen: int) -> None:
    """Of a training that is over, keep the newest ``keep_last`` checkpoints and the ``chosen`` one, all without their
    optimizers. May be repeated, after a kill too."""
    prune(folder, keep_last, [chosen])
    for step in steps(folder):
        path = step_folder(folder, step)
        try:
            manifest = _read_manifest(path)
        except CheckpointError:  # a damaged one stays what it is: nobody goes on from it any more
            continue
        if not manifest.get("retired", False):
            files = {name: entry for name, entry in manifest["files"].items() if name != f"{OPTIMIZER}.safetensors"}
            write_manifest(path, step, files, retired=True)  # first: a file too many is no damage, a missing one is
        (path / f"{OPTIMIZER}.safetensors").unlink(missing_ok=True)


def steps(folder: Path) -> list[int]:
    """Steps that have a checkpoint folder, whole or not."""
    if not folder.is_dir():
        return []
    return [int(match[1]) for path in folder.iterdir() if (match := _STEP.fullmatch(path.name))]


def file_table(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative name -> size and SHA-256 of every file below ``folder`` but the manifest."""
    return table_of(folder, (path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST))


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint in ``path``, naming the file; None when it is whole."""
    try:
        manifest = _read_manifest(path)
        if manifest["step"] != int(path.name.removeprefix("step-")):
            return f"{path / MANIFEST} is that of step {manifest['step']}"
        if STATE not in manifest["files"]:
            return f"{path / MANIFEST} does not list {STATE}"
        return damaged_file(path, manifest["files"])
    except CheckpointError as error:
        return str(error)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{path / MANIFEST} is not readable ({type(error).__name__})"


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint in ``path``, its own hash verified: else a wrong hash in it would be told as a
    damaged file of weights. Raises CheckpointError."""
    try:
        return read_sealed(path / MANIFEST)
    except OSError as error:
        raise CheckpointError(f"{path / MANIFEST} is missing or not readable ({type(error).__name__})") from error
    except DamagedError as error:
        raise CheckpointError(error.problem) from error


def write_manifest(folder: Path, step: int, files: Mapping[str, Any], **more: Any) -> None:
    """Say that the checkpoint of ``step`` in ``folder`` is whole with ``files`` (a ``file_table``)."""
    write_sealed(folder / MANIFEST, {"format": 1, "step": step, "files": files, **more})


def move_into_place(aside: Path, target: Path) -> None:
    """Rename the folder ``aside`` to ``target``; a folder that is there already is out of the way until it is done."""
    old = target.with_name(f".old-{target.name}")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    aside.rename(target)
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _clean(folder: Path) -> None:
    if not folder.is_dir():
        return
    for path in folder.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)
    for old in folder.glob(".old-*"):
        target = old.with_name(old.name.removeprefix(".old-"))
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:  # killed between the two renames
            old.rename(target)


def _unique_tensors(group: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors that own their memory, and alias -> name for those that are the same memory under another name."""
    unique: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    stored: set[int] = set()
    for name in sorted(group):
        tensor = group[name].detach()
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in seen:
            aliases[name] = seen[place]
            continue
        seen[place] = name
        tensor = tensor.cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.nbytes() != tensor.nbytes or storage.data_ptr() in stored:  # safetensors refuses other views
            tensor = tensor.clone()
        stored.add(tensor.untyped_storage().data_ptr())
        unique[name] = tensor
    return unique, aliases


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        aliases = json.loads((file.metadata() or {}).get("aliases", "{}"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    tensors.update({alias: tensors[name] for alias, name in aliases.items()})
    return tensors
