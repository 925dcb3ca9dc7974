"""Policy: a model of transformers with all that is needed to ask it, on a device, with what is trained marked."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from curr_reft.data.frame import BoxFrame
from curr_reft.errors import DataError, UsageError
from curr_reft.policy.adapters import Carried, adapter_weights, add_adapter, exchanged
from curr_reft.policy.attention import NAME
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.families import Family, family_of, part_of, positions_of
from curr_reft.policy.features import FeatureStore
from curr_reft.policy.graphs import StepGraphs
from curr_reft.policy.patches import find_patch_embedding
from curr_reft.policy.processor import ChatProcessor
from curr_reft.policy.prompt_pass import PromptPasses
from curr_reft.policy.sharding import Sharding
from curr_reft.policy.sharing import check_shared_layers, check_shared_prefix
from curr_reft.policy.tokens import find_end_ids, token_bias
from curr_reft.policy.varlen import Kernel, choose_kernel
from curr_reft.policy.windows import WINDOWS


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
    first_adapter: Mapping[str, torch.Tensor] | None = None  # what it began with; none: an adapter that does nothing
    kernel: Kernel | None = None  # of attention in the packed row; none: SDPA
    features: FeatureStore = field(default_factory=FeatureStore)  # of images that were seen
    prompt_passes: PromptPasses = field(default_factory=PromptPasses)  # of the last rollout, for its update
    graphs: StepGraphs | None = None  # decode steps recorded once and replayed; none: each is launched anew
    rows_that_fit: int | None = None  # most rows that are decoded together, once more have run out of memory
    sharding: Sharding | None = None  # of the weights over processes, in training; none: all are here

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

    @cached_property
    def tower(self) -> nn.Module | None:
        """The vision tower, where it puts out what the language model sees, projector included (the Qwen families)."""
        features = self.family.features
        return self.core.get_submodule(features) if f"{features}." in self.family.vision else None

    @cached_property
    def patch_embedding(self) -> nn.Conv3d | None:
        """The convolution over patches that is a matrix product, if the tower has one."""
        return find_patch_embedding(self.tower) if self.tower is not None else None

    @property
    def vision_parameters(self) -> list[nn.Parameter]:
        """What makes features of pixels: vision tower and projector."""
        return [each for name, each in self.core.named_parameters() if part_of(name, self.family) != "language"]

    def training_parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained (the adapter's with LoRA), frozen parts left out."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def completion_tokens(self, text: str) -> torch.Tensor:
        """int64 (T): a given completion as the model would have sampled it, its end token included.

        Raises DataError if it holds a token that the model never samples: its log-probability is minus infinity.
        """
        tokenizer = self.processor.tokenizer
        end = tokenizer.eos_token_id if tokenizer.eos_token_id in self.end_ids else self.end_ids[0]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        never = sorted(set(ids) & self._suppressed)
        if never:
            words = ", ".join(repr(tokenizer.convert_ids_to_tokens(each)) for each in never)
            raise DataError(
                f"completion {text[:60]!r}",
                f"the model never writes {words} (a placeholder, or a word it does not know)",
            )
        return torch.tensor([*ids, end], dtype=torch.int64)

    @cached_property
    def _suppressed(self) -> frozenset[int]:
        return frozenset(self.suppressed_ids)

    def drop_graphs(self) -> None:
        """Forgets what a rollout kept for backward, and frees it."""
        self.features.drop_graphs()
        self.prompt_passes.drop()

    def gathered(self) -> AbstractContextManager[None]:
        """While inside, all weights are here and no forward waits for others. All enter and leave together."""
        return nullcontext() if self.sharding is None else self.sharding.gathered()

    @contextmanager
    def reference(self) -> Iterator["Policy"]:
        """The policy before LoRA training: the same model, its adapter switched off, or as it was loaded where it went
        on from an earlier one. Raises UsageError without an adapter."""
        model = getattr(self.model, "module", self.model)
        if not hasattr(model, "disable_adapter"):
            raise UsageError("a reference policy is the model without its adapter; set model.lora or beta to 0")
        with model.disable_adapter() if self.first_adapter is None else exchanged(model, self.first_adapter):
            yield self


def wrap_model(
    core: Any,
    processor: Any,
    config: ModelConfig | None = None,
    *,
    source: str = "",
    carried: Carried | None = None,
) -> Policy:
    """The policy around a model and a processor of transformers that are in memory (as pre-training makes them).

    Of ``config`` everything holds but what says where the weights come from. Raises UsageError.
    """
    config = config or ModelConfig()
    family = family_of(core.config)
    if config.packed:
        check_shared_prefix(core.config)
        check_shared_layers(core)
        windows = {"vision_config": WINDOWS} if "image_grid_thw" in family.pixel_axes else {}
        core.set_attn_implementation({"text_config": NAME, **windows})
    limit_pixels(processor.image_processor, family, config)
    placed = getattr(core, "hf_device_map", None) is not None  # by device_map, or where it was made 4-bit
    device = core.get_input_embeddings().weight.device if placed else find_device(config.device)
    if not placed:
        core.to(device)
    if config.gradient_checkpointing:
        core.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for name, parameter in core.named_parameters():
        parameter.requires_grad_(parameter.is_floating_point() and part_of(name, family) not in config.freeze)
    tokenizer = processor.tokenizer
    end_ids = find_end_ids(core, tokenizer)
    adapted = config.lora is not None or carried is not None
    model = add_adapter(core, family, config, carried) if adapted else core
    model.train()
    return Policy(
        model=model,
        processor=ChatProcessor(
            processor,
            family,
            positions=positions_of(core, family),
            max_length=getattr(core.config.get_text_config(), "max_position_embeddings", None),
            frame_kind=None if config.box_frame == "auto" else config.box_frame,
            images=config,
        ),
        family=family,
        device=device,
        packed=config.packed,
        end_ids=end_ids,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0],
        token_bias_V=token_bias(core, tokenizer, end_ids).to(device),
        source=source,
        first_adapter=adapter_weights(model) if carried is not None else None,
        kernel=choose_kernel(config.attention, device, core.dtype) if config.packed else None,
        graphs=StepGraphs(device) if device.type == "cuda" and config.cuda_graphs == "auto" else None,
    )


def limit_pixels(image_processor: Any, family: Family, config: ModelConfig) -> None:
    """Sets the bounds of the image processor; what is saved with the model carries them on."""
    if config.min_pixels is None and config.max_pixels is None:
        return
    if not family.bounds_pixels:
        given = [f"model.{key}" for key in ("min_pixels", "max_pixels") if getattr(config, key) is not None]
        raise UsageError(
            f"{' and '.join(given)}: only the Qwen families resize between numbers of pixels; leave it out for "
            f"{config.path}"
        )
    size = image_processor.size
    low = config.min_pixels or size["shortest_edge"]
    high = config.max_pixels or size["longest_edge"]
    if low > high:
        raise UsageError(f"model.min_pixels ({low}) must not be above model.max_pixels ({high}); set both")
    image_processor.size = {"shortest_edge": low, "longest_edge": high}


def find_device(name: str) -> torch.device:
    """The device of ``model.device``. Raises UsageError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"model.device: {name!r} cannot be used here: {error}") from error
