"""Processed images on disk, from one run to the next, where the recipe asks for it (``model.image_cache``).

An entry is what the image processor made of the images of one prompt, bit for bit. Its name is the hash of the images'
bytes, its folder that of all that shaped the result: the processor and its settings, the versions of transformers and
Pillow. So nothing has to be thrown away when a setting changes, and what no run asks for any more is in a folder that
can be removed. Only images that are stored somewhere are kept: of one that is drawn, no bytes can be hashed.

Entries are safetensors files, written aside and renamed, so that several processes may share a folder. They are not
forced to the disk: each carries a checksum, and one that does not hold (a machine that lost power, a disk that errs) is
made again with a warning.

The rule of the limit is: first come, and nothing is removed. Training asks for all images again every epoch, and a
cache that puts out the oldest would put out every entry just before it is asked for.
"""

import contextlib
import hashlib
import json
import logging
import os
import time
import uuid
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load, save

from curr_reft.data.images import StoredImage
from curr_reft.data.item import ImageSource
from curr_reft.files import human_size
from curr_reft.policy.image_maker import ImageMaker

FORMAT = 1  # grows when an entry, or how an image is opened, becomes another one
STALE = 3600.0  # seconds after which a file that was being written is a leftover of a process that was killed
RECOUNT = 1 / 16  # of the limit, written by this process: then the folder is counted anew, for what others wrote

_log = logging.getLogger(__name__)


class ImageCache:
    """The entries of one image processor. ``limit`` bytes bound the whole folder, whatever else was kept there."""

    def __init__(self, folder: Path, limit: int, maker: ImageMaker) -> None:
        self._root, self._limit = folder, limit
        self._folder = folder / _settings_hash(maker)
        self._taken: int | None = None  # bytes in the folder; none: not counted yet
        self._written = 0  # bytes since then
        self._closed = False  # nothing more is written

    def open(self, sources: Sequence[ImageSource], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The entry of these images, or ``make()``, which becomes one. Raises what ``make`` raises."""
        if not all(isinstance(source, StoredImage) for source in sources):
            return make()
        path = self._path(sources)
        made = self._read(path)
        if made is None:
            made = make()
            self._write(path, made)
        return made

    def _path(self, sources: Sequence[ImageSource]) -> Path:
        name = hashlib.sha256("\n".join(source.key for source in sources).encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.safetensors"

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("the image cache cannot be read (%s); the image is processed again", error)
            return None
        try:
            return _decoded(data)
        except (SafetensorError, ValueError, KeyError, IndexError, TypeError) as error:
            _log.warning("the entry %s of the image cache is damaged (%s) and is made again", path, error)
            return None

    def _write(self, path: Path, made: dict[str, Any]) -> None:
        if self._closed:
            return
        try:
            data = _encoded(made)
        except TypeError as error:
            self._stop(f"this image processor makes what cannot be kept ({error})")
            return
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            if not self._fits(len(data)):
                self._stop(
                    f"{human_size(self._limit)} (model.image_cache_gb) are used. Raise it, or remove the folders below "
                    "it that no run needs"
                )
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            os.replace(aside, path)
        except OSError as error:  # a full or read-only disk is no reason to end a run
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            self._stop(str(error))
            return
        self._written += len(data)

    def _fits(self, size: int) -> bool:
        if self._taken is None or self._written > RECOUNT * self._limit:
            self._taken, self._written = _count(self._root), 0
        return self._taken + self._written + size <= self._limit

    def _stop(self, why: str) -> None:
        self._closed = True
        _log.warning("no more images are kept in %s: %s", self._root, why)


def _count(folder: Path) -> int:
    """Bytes of the files in ``folder``; leftovers of writers that were killed are removed on the way."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if name.endswith(".tmp") and time.time() - status.st_mtime > STALE:
                    path.unlink()
                else:
                    total += status.st_size
    return total


def _settings_hash(maker: ImageMaker) -> str:
    kind = type(maker.image_processor)
    said = {
        "format": FORMAT,
        "processor": f"{kind.__module__}.{kind.__qualname__}",
        "settings": maker.image_processor.to_dict(),
        "options": dict(maker.options),
        "transformers": transformers.__version__,
        "pillow": PIL.__version__,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _encoded(made: dict[str, Any]) -> bytes:
    """Raises TypeError for a value that is neither array nor JSON."""
    arrays: dict[str, torch.Tensor] = {}

    def told(value: Any) -> Any:
        """JSON in which arrays have given way to their names."""
        if isinstance(value, torch.Tensor | np.ndarray):
            kind = "tensor" if isinstance(value, torch.Tensor) else "array"
            if kind == "array":
                value = torch.from_numpy(np.require(value, requirements=["C", "W"]))
            arrays[f"{len(arrays)}"] = value.contiguous()
            return {kind: f"{len(arrays) - 1}"}
        if isinstance(value, list | tuple):
            return [told(each) for each in value]
        return value.item() if isinstance(value, np.generic) else value

    says = json.dumps({name: told(value) for name, value in made.items()})
    return save(arrays, metadata={"made": says, "sum": _sum(says, arrays)})


def _decoded(data: bytes) -> dict[str, Any]:
    """The inverse. Raises SafetensorError, ValueError, KeyError, ... for bytes that are not an entry."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    arrays = load(data)
    if _sum(metadata["made"], arrays) != metadata["sum"]:
        raise ValueError("its checksum does not hold")

    def found(value: Any) -> Any:
        if isinstance(value, dict):
            ((kind, name),) = value.items()
            return arrays[name] if kind == "tensor" else arrays[name].numpy()
        return [found(each) for each in value] if isinstance(value, list) else value

    return {name: found(value) for name, value in json.loads(metadata["made"]).items()}


def _sum(says: str, arrays: dict[str, torch.Tensor]) -> str:
    """CRC-32 of an entry: it finds accidents, at a gigabyte a second."""
    total = zlib.crc32(says.encode())
    for name in sorted(arrays):
        total = zlib.crc32(arrays[name].numpy().reshape(-1).view(np.uint8).data, total)
    return f"{total:08x}"
