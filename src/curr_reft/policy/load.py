"""Loading and saving a policy: the model with its processor, on a device, with what is trained marked.

Loads strictly: weights that are missing, unexpected or of another shape are an error, never a random initialisation.
What is saved is a plain folder that ``AutoModelForImageTextToText.from_pretrained`` opens; adapters are merged in.
"""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from curr_reft.data.frame import BoxFrame
from curr_reft.errors import CheckpointError, UsageError
from curr_reft.policy.attention import NAME
from curr_reft.policy.config import EMBEDDED, LoraConfig, ModelConfig
from curr_reft.policy.families import Family, check_shared_prefix, family_of, part_of, positions_of
from curr_reft.policy.image_text import ImageTextProcessor, load_image_text_processor
from curr_reft.policy.processor import ChatProcessor

_VIDEO_FILE = "video_preprocessor_config.json"


@dataclass(eq=False, kw_only=True)
class Policy:
    """A model that answers, with all that is needed to ask it."""

    model: Any  # what forward is called on: the model itself, or PEFT, DDP, ... around it
    processor: ChatProcessor
    family: Family
    device: torch.device
    packed: bool  # share prompts between completions
    end_ids: tuple[int, ...]  # tokens that end a completion
    pad_id: int
    token_bias_V: torch.Tensor  # float32, added to logits: 0, or the lowest float for a token that is never sampled
    source: str  # folder or hub name it was loaded from

    @property
    def core(self) -> Any:
        """The transformers model inside any wrappers."""
        model = getattr(self.model, "module", self.model)  # DDP
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    @property
    def frame(self) -> BoxFrame:
        """The coordinates in which the model reads and writes boxes."""
        return self.processor.frame

    @property
    def vocabulary_size(self) -> int:
        return int(self.token_bias_V.shape[0])

    @property
    def suppressed_ids(self) -> list[int]:
        """Tokens that are never sampled."""
        return torch.nonzero(self.token_bias_V < 0).flatten().tolist()

    def training_parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained (the adapter's with LoRA), frozen parts left out."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def completion_tokens(self, text: str) -> torch.Tensor:
        """int64 (T): a given completion as the model would have sampled it, its end token included."""
        tokenizer = self.processor.tokenizer
        end = tokenizer.eos_token_id if tokenizer.eos_token_id in self.end_ids else self.end_ids[0]
        return torch.tensor([*tokenizer(text, add_special_tokens=False)["input_ids"], end], dtype=torch.int64)

    @contextmanager
    def reference(self) -> Iterator["Policy"]:
        """The policy before LoRA training: the same model, its adapter switched off. Raises UsageError without one."""
        model = getattr(self.model, "module", self.model)
        if not hasattr(model, "disable_adapter"):
            raise UsageError("a reference policy is the model without its adapter; set model.lora or beta to 0")
        with model.disable_adapter():
            yield self


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
    options: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    if config.revision:
        options["revision"] = config.revision
    try:
        model_config = AutoConfig.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"model.path: {config.path!r} is neither a model folder nor a hub name that can be read: {error}"
        ) from error
    family = family_of(model_config)
    if config.packed:
        check_shared_prefix(model_config)  # before gigabytes of weights are read
    core = _load_weights(path, config.dtype, options)
    processor = load_processor(path, family, model_config.model_type, **options)
    return wrap_model(core, processor, config, source=path)


def wrap_model(core: Any, processor: Any, config: ModelConfig | None = None, *, source: str = "") -> Policy:
    """The policy around a model and a processor of transformers that are in memory (as pre-training makes them).

    Of ``config`` everything holds but what says where the weights come from. Raises UsageError.
    """
    config = config or ModelConfig()
    family = family_of(core.config)
    if config.packed:
        check_shared_prefix(core.config)
        core.set_attn_implementation({"text_config": NAME})
    device = _device(config.device)
    core.to(device)
    if config.gradient_checkpointing:
        core.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for name, parameter in core.named_parameters():
        parameter.requires_grad_(part_of(name, family) not in config.freeze)
    tokenizer = processor.tokenizer
    end_ids = _end_ids(core, tokenizer)
    model = _with_lora(core, family, config.lora) if config.lora else core
    model.train()
    return Policy(
        model=model,
        processor=ChatProcessor(
            processor,
            family,
            positions=positions_of(core, family),
            max_length=getattr(core.config.get_text_config(), "max_position_embeddings", None),
            frame_kind=None if config.box_frame == "auto" else config.box_frame,
        ),
        family=family,
        device=device,
        packed=config.packed,
        end_ids=end_ids,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0],
        token_bias_V=token_bias(core, tokenizer, end_ids).to(device),
        source=source,
    )


def load_processor(path: str, family: Family, model_type: str, **options: Any) -> Any:
    """The processor of transformers that a folder or hub name holds."""
    if family.plain_processor:
        return load_image_text_processor(path, model_type, **options)
    return AutoProcessor.from_pretrained(path, **options)


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
    if isinstance(policy.processor.processor, ImageTextProcessor) and video.is_file():
        shutil.copyfile(video, folder / _VIDEO_FILE)


def _load_weights(path: str, dtype: str, options: dict[str, Any]) -> Any:
    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        path, dtype=getattr(torch, dtype), output_loading_info=True, **options
    )
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


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"model.device: {name!r} cannot be used here: {error}") from error


def _with_lora(core: Any, family: Family, lora: LoraConfig) -> Any:
    """The model with adapters on the named layers of its language model; only the adapters are trained."""
    if importlib.util.find_spec("peft") is None:
        raise UsageError("model.lora needs the peft library: pip install 'curr-reft[lora]'")
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    targets = [
        name
        for name, module in core.named_modules()
        if isinstance(module, nn.Linear)
        and name.rpartition(".")[2] in lora.targets
        and part_of(name + ".", family) == "language"
    ]
    if not targets:
        raise UsageError(
            f"model.lora.targets: no linear layer of the language model is called {', '.join(lora.targets)}"
        )
    return get_peft_model(
        core,
        PeftConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]
            lora_dropout=lora.dropout,
            target_modules=targets,
        ),
    )


def _end_ids(core: Any, tokenizer: Any) -> tuple[int, ...]:
    named = core.generation_config.eos_token_id
    ids = [named] if isinstance(named, int) else list(named or ())
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.append(tokenizer.eos_token_id)
    if not ids:
        raise UsageError("the model has no end token; set eos_token_id in its generation_config.json")
    return tuple(ids)


def token_bias(core: Any, tokenizer: Any, end_ids: tuple[int, ...]) -> torch.Tensor:
    """float32 (V): the lowest float at tokens that are never sampled, 0 elsewhere.

    Never sampled: rows of the output layer without a token (padded vocabularies), the placeholders and marks of images
    and videos, the padding token and the unknown token, unless one of them ends a completion.
    """
    size = int(core.get_output_embeddings().weight.shape[0])
    never: set[Any] = set(range(size)) - set(tokenizer.get_vocab().values())
    config = core.config
    for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id"):
        never.add(getattr(config, name, None))
    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_pad|>", "<|vision_start|>", "<|vision_end|>",
             "<image>", "<fake_token_around_image>", "<global-img>")  # fmt: skip
    never.update(tokenizer.get_vocab().get(mark) for mark in marks)
    never.update((tokenizer.pad_token_id, tokenizer.unk_token_id))
    bias_V = torch.zeros(size)
    bias_V[[each for each in never if each is not None and each < size and each not in end_ids]] = torch.finfo(
        torch.float32
    ).min
    return bias_V


def describe(policy: Policy) -> str:
    """One line for logs: family, size, what is trained."""
    total = sum(parameter.numel() for parameter in policy.core.parameters())
    trained = sum(parameter.numel() for parameter in policy.training_parameters())
    return json.dumps(
        {"model": policy.source, "family": policy.core.config.model_type, "parameters": total, "trained": trained}
    )
