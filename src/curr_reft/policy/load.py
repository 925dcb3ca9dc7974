"""Loading and saving a policy.

Loads strictly: weights that are missing, unexpected or of another shape are an error, never a random initialisation.
What is saved is a plain folder that ``AutoModelForImageTextToText.from_pretrained`` opens; adapters are merged in.
"""

from copy import deepcopy
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForImageTextToText, PretrainedConfig
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING_NAMES
from transformers.video_processing_utils import BaseVideoProcessor

from curr_reft.errors import CheckpointError, UsageError
from curr_reft.files import write_json
from curr_reft.policy.adapters import ADAPTER, find_carried, four_bits, merged_state
from curr_reft.policy.config import EMBEDDED, ModelConfig
from curr_reft.policy.families import Family, family_of
from curr_reft.policy.image_text import load_any_processor
from curr_reft.policy.policy import Policy, find_device, limit_pixels, wrap_model
from curr_reft.policy.processor import ChatProcessor, chat_text
from curr_reft.policy.sharing import check_shared_prefix
from curr_reft.policy.template_check import check_template
from curr_reft.policy.user_family import use_family

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
    path = model_folder(config.path)
    model_config = load_config(config)
    family = family_of(model_config)  # raises for one that is not supported
    if config.packed:
        check_shared_prefix(model_config)  # before gigabytes of weights are read
    if config.threads is not None:
        torch.set_num_threads(config.threads)  # of the whole process: torch knows no other
    dtype = getattr(torch, weights_dtype(config, model_config))
    carried = find_carried(path) if config.quantize is not None else None
    base = config if carried is None else config.model_copy(update={"path": carried.base})
    core = _load_weights(base, {"dtype": dtype, **_placing(config, family, dtype)})
    processor = load_processor(path, model_config.model_type, **_options(config))
    return wrap_model(core, processor, config, source=path, carried=carried)


def load_config(config: ModelConfig) -> Any:
    """The transformers configuration of the model that ``config`` names. Raises UsageError."""
    use_family(config)
    path, options = model_folder(config.path), _options(config)
    try:
        if not config.trust_remote_code:
            _refuse_remote_code(config.path, *PretrainedConfig.get_config_dict(path, **options))
        return AutoConfig.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"model.path: {config.path!r} is neither a model folder nor a hub name that can be read: "
            f"{_no_folder(config.path) or error}"
        ) from error


def _no_folder(path: str) -> str:
    """What is wrong with a path that can only be a folder's and is none; empty for all others."""
    if not path.startswith(("/", "./", "../", "~")) or Path(path).is_dir():
        return ""
    return "there is no such folder"


def _refuse_remote_code(path: str, settings: dict[str, Any], *_: Any) -> None:
    """Raises UsageError for a model that is code of its own: transformers knows no class for it."""
    kind = settings.get("model_type")
    if "auto_map" in settings and kind not in CONFIG_MAPPING:
        hint = " (for InternVL: the repository whose name ends in -hf)" if kind == "internvl_chat" else ""
        raise UsageError(
            f"model.path: {path!r} brings Python code of its own ({', '.join(sorted(settings['auto_map']))}), which is "
            f"not run; use a version of the model in transformers' own layout{hint}, or, if you trust the code, set "
            "model.trust_remote_code"
        )


def weights_dtype(config: ModelConfig, model_config: Any = None) -> Literal["float32", "bfloat16"]:
    """The number type of ``model.dtype``; for ``auto`` the one that ``model_config`` (else the model's own) names, or
    float32 where it names none. Raises UsageError for one that models are not trained in."""
    if config.dtype != "auto":
        return config.dtype
    model_config = load_config(config) if model_config is None else model_config
    stored = getattr(model_config, "dtype", None) or getattr(model_config.get_text_config(), "dtype", None)
    name = str(stored or torch.float32).removeprefix("torch.")
    if name == "float32":
        return "float32"
    if name == "bfloat16":
        return "bfloat16"
    raise UsageError(
        f"model.dtype: auto, but the weights of {config.path} are {name}, which models are not trained in; set "
        "bfloat16 or float32"
    )


def _placing(config: ModelConfig, family: Family, dtype: torch.dtype) -> dict[str, Any]:
    """More arguments of ``from_pretrained``: attention of the plain path, devices, 4 bits. Raises UsageError."""
    made: dict[str, Any] = {}
    if not config.packed and config.attention in ("eager", "flash"):
        made["attn_implementation"] = {"eager": "eager", "flash": "flash_attention_2"}[config.attention]
    if config.quantize is not None:
        made |= four_bits(config, family, dtype, find_device(config.device))
    if config.device_map is not None:
        if torch.cuda.device_count() == 0:
            raise UsageError(
                f"model.device_map: {config.device_map!r} spreads a model over GPUs, and there is none here"
            )
        made["device_map"] = config.device_map
    return made


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
    """Load the processor of a folder or hub name, its chat template tried under limits. Raises UsageError."""
    try:
        processor = load_any_processor(path, model_type, **options)
    except (ImportError, OSError, ValueError) as error:
        raise UsageError(f"model.path: the processor of {path} cannot be loaded: {error}") from error
    check_template(partial(chat_text, processor, "What is in the image?", 1), path)
    return processor


def save_policy(policy: Policy, folder: Path | str) -> None:
    """Writes model and processor as a plain folder for ``from_pretrained``, an adapter merged into a copy.

    Of a model in 4 bits the adapter stands beside it, for the next training (``adapters.py``).
    """
    folder = Path(folder)
    model = getattr(policy.model, "module", policy.model)
    if not hasattr(model, "merge_adapter"):
        policy.core.save_pretrained(folder)
    elif getattr(policy.core, "is_quantized", False):
        _save_spread(policy.core, folder)
        model.save_pretrained(folder / ADAPTER)
    else:
        policy.core.save_pretrained(folder, state_dict=merged_state(policy.core))
    policy.processor.processor.save_pretrained(folder)
    if policy.core.config.model_type in VIDEO_PROCESSOR_MAPPING_NAMES:
        _save_video_settings(policy.source, folder)


def _save_video_settings(source: str, folder: Path) -> None:
    """What the base says of videos, in whichever of its files: not ours to use, but the official processor classes, and
    with them vLLM, do not open a folder without it. Nothing for a base that says nothing."""
    try:
        settings, _ = BaseVideoProcessor.get_video_processor_dict(source, local_files_only=True)
    except OSError:
        return
    write_json(folder / _VIDEO_FILE, settings)


def _save_spread(core: Any, folder: Path) -> None:
    """As a model that was never in 4 bits."""
    with torch.device("meta"):
        plain = AutoModelForImageTextToText.from_config(
            _without_bits(deepcopy(core.config)), attn_implementation="eager"
        )
    plain.generation_config = core.generation_config
    plain.save_pretrained(folder, state_dict=merged_state(core))


def _without_bits(settings: Any) -> Any:
    del settings.quantization_config
    return settings


def _load_weights(config: ModelConfig, options: dict[str, Any]) -> Any:
    path = model_folder(config.path)
    _require_safetensors(path)
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            path, output_loading_info=True, use_safetensors=True, **options, **_options(config)
        )
    except ImportError as error:  # a kernel, accelerate
        raise UsageError(f"model: {path} cannot be loaded as asked: {error}") from error
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:  # no file, another shape, a damaged file
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
    elsewhere = {str(place) for place in (getattr(core, "hf_device_map", None) or {}).values()} & {"cpu", "disk"}
    if config.device_map is not None and elsewhere:
        raise UsageError(
            f"model.device_map: the GPUs do not hold the model, parts of it came to {' and '.join(sorted(elsewhere))}, "
            "where they cannot be trained; use dtype bfloat16, model.lora or model.quantize, or more GPUs"
        )
    return core


def _require_safetensors(path: str) -> None:
    """Raises UsageError for a folder whose weights are pickled: reading them could run code."""
    folder = Path(path)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickled = sorted(file.name for kind in ("*.bin", "*.pt", "*.pth") for file in folder.glob(kind))
    if pickled:
        raise UsageError(
            f"model.path: the weights of {path} are pickled ({', '.join(pickled[:3])}); they are not read, since "
            "that can run code. Convert them to safetensors where you trust them"
        )
