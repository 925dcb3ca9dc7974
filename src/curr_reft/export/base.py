"""The files of a base model beside its weights, and the layout of its weights: what a model made of it keeps.

A merged model is its base with other numbers. So its files are those of the base, byte for byte (tokenizer, chat
template, image settings, generation settings, licence, and the configuration in the spelling of its publisher, which
older versions of inference engines read too), but for what training changed: the number type, the bounds on pixels.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curr_reft.errors import CheckpointError, UsageError
from curr_reft.files import read_json

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".ot", ".index.json")
CONFIG, CARD = "config.json", "README.md"
ABOUT_BASE = (CARD, "base.json")  # cards: what they say of weights is not true of other ones
IMAGES = ("preprocessor_config.json", "processor_config.json")

_Layout = dict[str, tuple[int, ...]]


def base_folder(path: str, revision: str | None = None, *, weights: bool) -> Path:
    """The folder of a model: itself, the packaged one for ``embedded``, or what the hub's client has or fetches of it.

    Raises UsageError when there is none.
    """
    from curr_reft.policy.load import model_folder  # heavy; push needs the names of this module alone

    folder = Path(model_folder(path)).expanduser()
    if (folder / CONFIG).is_file():
        return folder
    if folder.is_dir() or not _is_hub_name(path):
        raise UsageError(f"base model {path}: the folder holds no {CONFIG}; name the base's folder with --base")
    from huggingface_hub import snapshot_download

    leave = [f"*{kind}" for kind in WEIGHTS if not (weights and kind in (".safetensors", ".index.json"))]
    try:
        return Path(snapshot_download(path, revision=revision, ignore_patterns=[*leave, "*/*"]))
    except Exception as error:  # no network, no such name, a gate: a class for each, of several libraries
        raise UsageError(
            f"base model {path} is no folder, and the hub did not give it: {error}; name a folder with --base"
        ) from error


def other_files(folder: Path) -> list[Path]:
    """The files of a model folder that are neither weights nor its cards, in order. Folders inside are left alone."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and not path.name.startswith(".")
        and path.name not in ABOUT_BASE
        and not path.name.endswith(WEIGHTS)
    )


def complete(target: Path, base: Path, dtype: str, pixels: Mapping[str, int] | None = None) -> None:
    """Write the files of ``base`` beside the weights in ``target``: with the number type ``dtype`` and, where
    ``pixels`` gives ``min_pixels`` and ``max_pixels``, with these bounds. Raises CheckpointError for a damaged file."""
    for path in other_files(target):
        path.unlink()  # what transformers wrote: the same in another spelling
    for path in other_files(base):
        if path.name == CONFIG:
            _write_changed(path, target, lambda settings: _set_dtype(settings, dtype))
        elif path.name in IMAGES and pixels:
            _write_changed(path, target, lambda settings: _set_pixels(settings, pixels))
        else:
            shutil.copyfile(path, target / path.name)


def check_layout(target: Path, base: Path) -> None:
    """The weights in ``target`` have the names and shapes of those in ``base``, where that has weights as safetensors.

    A tensor that stands twice in the base (an output layer tied to the embeddings) may stand once. Raises
    CheckpointError.
    """
    there, here = layout(base), layout(target)
    if not there:
        return
    absent = [name for name in there if name not in here and not _is_tied(name, base)]
    wrong = [*absent, *(name for name in here if there.get(name) != here[name])]
    if wrong:
        raise CheckpointError(
            f"the merged weights have not the layout of {base}: {', '.join(sorted(wrong)[:5])} ({len(wrong)}); other "
            "programs would not load them"
        )


def layout(folder: Path) -> _Layout:
    """Name -> shape of every tensor in the safetensors files of ``folder``, by their headers."""
    from safetensors import safe_open

    found: _Layout = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - the handle is no mapping
                found[name] = tuple(file.get_slice(name).get_shape())
    return found


def _is_tied(name: str, base: Path) -> bool:
    settings = read_json(base / CONFIG)
    tied = settings.get("tie_word_embeddings", settings.get("text_config", {}).get("tie_word_embeddings", False))
    return bool(tied) and name.rpartition(".weight")[0].rpartition(".")[2] == "lm_head"


def _is_hub_name(path: str) -> bool:
    return path.count("/") == 1 and not path.startswith((".", "/", "~", "\\"))


def _write_changed(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The JSON file as it is when ``change`` changes nothing, else written anew."""
    try:
        settings = read_json(path)
        before = json.dumps(settings)
        change(settings)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} is not readable ({error})") from error
    if json.dumps(settings) == before:
        shutil.copyfile(path, target / path.name)
    else:
        text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
        (target / path.name).write_text(text, encoding="utf-8")


def _set_dtype(settings: dict[str, Any], dtype: str) -> None:
    """In the spelling of the file: ``torch_dtype`` (transformers 4) or ``dtype``, at the top and in its parts."""
    parts = [settings, *(value for value in settings.values() if isinstance(value, dict))]
    named = [(part, key) for part in parts for key in ("torch_dtype", "dtype") if part.get(key) is not None]
    for part, key in named:
        part[key] = dtype
    if not named:
        settings["torch_dtype"] = dtype


def _set_pixels(settings: dict[str, Any], pixels: Mapping[str, int]) -> None:
    images = settings.get("image_processor", settings)
    sides = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
    for name, bound in pixels.items():
        if name in images:
            images[name] = bound
        if isinstance(images.get("size"), dict) and sides[name] in images["size"]:
            images["size"][sides[name]] = bound
