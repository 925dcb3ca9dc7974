"""What a finished stage hands on: a model folder, and a manifest with the hash of its weights.

The manifest is written last: a folder without one is not published, and no stage starts from it.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from curr_reft.errors import CheckpointError, DamagedError
from curr_reft.files import (
    remove_leftovers,
    reporting_full_disk,
    require_space,
    sha256_file,
    sync_tree,
)
from curr_reft.integrity import damaged_file, read_sealed, write_sealed
from curr_reft.train.checkpoint import MANIFEST, file_table, move_into_place

MODEL = "model"
_OURS = ("format", "weights_sha256", "files", "sha256")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published model whose files were found to be those of its manifest."""

    model: Path  # loads with from_pretrained
    weights_sha256: str
    record: dict[str, Any]  # as given to ``publish``


def weights_hash(model: Path) -> str:
    """One hash over all safetensors files below ``model``: of the lines ``HASH  NAME`` that sha256sum prints for them.

    Raises CheckpointError when there is none.
    """
    files = sorted(path.relative_to(model).as_posix() for path in model.rglob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{model} holds no safetensors file")
    return _hash_of_hashes({name: sha256_file(model / name) for name in files})


def same_weights(first: Path, second: Path) -> bool:
    """Whether two model folders hold equal tensors under equal names, compared in float32: a base in bfloat16 and its
    copy in float32 are equal. A tensor that only one of them holds (a tied output layer) is passed over."""
    with ExitStack() as stack:
        one, other = _open_tensors(first, stack), _open_tensors(second, stack)
        shared = one.keys() & other.keys()
        return bool(shared) and all(
            torch.equal(one[name].get_tensor(name).float(), other[name].get_tensor(name).float()) for name in shared
        )


def _open_tensors(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Tensor name -> the open file that holds it."""
    files = [stack.enter_context(safe_open(path, "pt")) for path in sorted(folder.glob("*.safetensors"))]
    return {name: file for file in files for name in file.keys()}  # noqa: SIM118 - the handle is no mapping


def publish(
    folder: Path, save_model: Callable[[Path], None], record: Mapping[str, Any], needed: int | None = None
) -> Published:
    """Save a model with ``save_model(path)`` as ``folder/model`` and ``folder/manifest.json`` with ``record``.

    A model published there before is withdrawn first. ``needed`` bytes of weights are to come. Raises DiskFullError,
    and CheckpointError when ``save_model`` wrote no safetensors file.
    """
    assert not set(_OURS) & set(record), f"{_OURS} are written by publish"
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".tmp-{MODEL}-{os.getpid()}"
    for leftover in (*folder.glob(f".tmp-{MODEL}-*"), *folder.glob(f".old-{MODEL}")):
        shutil.rmtree(leftover, ignore_errors=True)
    remove_leftovers(folder)
    try:
        require_space(folder / MODEL, needed or 0)
        with reporting_full_disk(folder / MODEL, needed):
            aside.mkdir()
            save_model(aside)
            sync_tree(aside)
            files = file_table(aside)
            sha256 = weights_hash(aside)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    (folder / MANIFEST).unlink(missing_ok=True)
    move_into_place(aside, folder / MODEL)
    write_sealed(folder / MANIFEST, {"format": 1, **record, "weights_sha256": sha256, "files": files})
    return Published(model=folder / MODEL, weights_sha256=sha256, record=dict(record))


def read_published(folder: Path) -> Published | None:
    """The model published in ``folder``; None when nothing is. Raises CheckpointError when a file was changed."""
    manifest_path = folder / MANIFEST
    if not manifest_path.is_file():
        return None
    try:
        manifest = read_sealed(manifest_path)
        files, sha256 = manifest["files"], manifest["weights_sha256"]
        problem = damaged_file(folder / MODEL, files)
        weights = {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}
    except DamagedError as error:
        raise CheckpointError(f"{error.problem}; remove {folder} and resume") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{manifest_path} is not readable ({error}); remove {folder} and resume") from error
    if problem is None and _hash_of_hashes(weights) != sha256:
        problem = f"weights_sha256 in {manifest_path} is not that of its files"
    if problem is not None:
        raise CheckpointError(f"the published model is damaged: {problem}; remove {folder} and resume")
    record = {key: value for key, value in manifest.items() if key not in _OURS}
    return Published(model=folder / MODEL, weights_sha256=sha256, record=record)


def _hash_of_hashes(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(lines.encode()).hexdigest()
