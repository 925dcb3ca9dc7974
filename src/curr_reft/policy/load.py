"""Loading and saving a policy.

Loads strictly: weights that are missing, unexpected or of another shape are an error, never a random initialisation.
What is saved is a plain folder that ``AutoModelForImageTextToText.from_pretrained`` opens; adapters are merged in.
"""

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from curr_reft.errors import CheckpointError, UsageError
from curr_reft.policy.config import EMBEDDED, ModelConfig
from curr_reft.policy.families import family_of
from curr_reft.policy.image_text import load_any_processor
from curr_reft.policy.policy import Policy, limit_pixels, wrap_model
from curr_reft.policy.processor import ChatProcessor
from curr_reft.policy.sharing import check_shared_prefix

__all__ = [
    "Policy",
    "load_chat_processor",
    "load_config",
    "load_policy",
    "load_processor",
    "model_folder",
    "save_policy",
    "wrap_model",
]

_VIDEO_FILE = "video_preprocessor_config.json"


def model_folder(path: str) -> str:
    """``embedded`` becomes the packaged folder; anything else stays. Raises UsageError if the folder is not there."""
    if path != EMBEDDED:
        return path
    folder = Path(str(resources.files("curr_reft") / "embedded" / "model"))
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"model.path: the embedded model is missing from this installation ({folder}); reinstall curr-reft"
        )
    return str(folder)


def load_policy(config: ModelConfig | str | Path) -> Policy:
    """The policy that ``config`` (or a folder) names, ready to sample and to train.

    Raises UsageError for a model that cannot be used as asked, CheckpointError for weights that do not fit.
    """
    if not isinstance(config, ModelConfig):
        config = ModelConfig(path=str(config))
    path, options = model_folder(config.path), _options(config)
    model_config = load_config(config)
    family_of(model_config)  # raises for one that is not supported
    if config.packed:
        check_shared_prefix(model_config)  # before gigabytes of weights are read
    if config.threads is not None:
        torch.set_num_threads(config.threads)  # of the whole process: torch knows no other
    core = _load_weights(path, config.dtype, options)
    processor = load_processor(path, model_config.model_type, **options)
    return wrap_model(core, processor, config, source=path)


def load_config(config: ModelConfig) -> Any:
    """The transformers configuration of the model that ``config`` names. Raises UsageError."""
    try:
        return AutoConfig.from_pretrained(model_folder(config.path), **_options(config))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"model.path: {config.path!r} is neither a model folder nor a hub name that can be read: {error}"
        ) from error


def load_chat_processor(config: ModelConfig) -> ChatProcessor:
    """The processor and box frame of ``load_policy(config)``, without its weights: prompts with images carry no rotary
    positions. Raises UsageError."""
    path, model_config = model_folder(config.path), load_config(config)
    family = family_of(model_config)
    processor = load_processor(path, model_config.model_type, **_options(config))
    limit_pixels(processor.image_processor, family, config)
    return ChatProcessor(
        processor,
        family,
        max_length=getattr(model_config.get_text_config(), "max_position_embeddings", None),
        frame_kind=None if config.box_frame == "auto" else config.box_frame,
    )


def _options(config: ModelConfig) -> dict[str, Any]:
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    if config.revision:
        options["revision"] = config.revision
    return options


def load_processor(path: str, model_type: str, **options: Any) -> Any:
    """The processor that a folder or hub name holds. Raises UsageError."""
    try:
        return load_any_processor(path, model_type, **options)
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"model.path: the processor of {path} cannot be loaded: {error}") from error


def save_policy(policy: Policy, folder: Path | str) -> None:
    """Writes model and processor as a plain folder for ``from_pretrained``; an adapter is merged into a copy."""
    folder = Path(folder)
    model = getattr(policy.model, "module", policy.model)
    if hasattr(model, "merge_adapter"):
        model.merge_adapter()
        try:
            state = {
                name.removeprefix("base_model.model.").replace(".base_layer.", "."): value.detach().clone()
                for name, value in model.state_dict().items()
                if "lora_" not in name
            }
        finally:
            model.unmerge_adapter()
        policy.core.save_pretrained(folder, state_dict=state)
    else:
        policy.core.save_pretrained(folder)
    policy.processor.processor.save_pretrained(folder)
    video = Path(policy.source) / _VIDEO_FILE  # not ours to read, but the official processor class wants it
    if video.is_file():
        shutil.copyfile(video, folder / _VIDEO_FILE)


def _load_weights(path: str, dtype: str, options: dict[str, Any]) -> Any:
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            path, dtype=getattr(torch, dtype), output_loading_info=True, **options
        )
    except (OSError, RuntimeError, ValueError) as error:  # no file, a shape that does not fit, a damaged file
        raise CheckpointError(f"{path}: the weights cannot be loaded: {error}") from error
    core, info = loaded
    wrong = {
        kind: sorted(map(str, info.get(kind) or ())) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(wrong.values()):
        found = "; ".join(
            f"{kind.replace('_', ' ')}: {', '.join(keys[:5])} ({len(keys)})" for kind, keys in wrong.items() if keys
        )
        raise CheckpointError(f"{path}: the weights do not fit the model its config.json describes: {found}")
    return core
