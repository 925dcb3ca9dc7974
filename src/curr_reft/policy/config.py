"""The recipe's sections about the model and about sampling from it. Imports nothing heavy."""

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from curr_reft.config import Config

EMBEDDED = "embedded"
"""The value of ``ModelConfig.path`` that names the tiny model shipped inside the package."""


Part: TypeAlias = Literal["vision", "aligner", "language"]


class LoraConfig(Config):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685), through the peft library."""

    rank: int = Field(16, ge=1, description="Rank of the adapter matrices.")
    alpha: float = Field(32.0, gt=0, description="The adapter's output is scaled by alpha / rank.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout in the adapter; above 0 the sampled and the trained policy differ."
    )
    targets: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Names of the linear layers that get an adapter; none: those of the family in the language model "
        "(docs/models.md), all in the other parts.",
    )
    parts: tuple[Part, ...] = Field(
        ("language",), min_length=1, description="Parts with adapters; one that is in model.freeze gets none."
    )
    dora: bool = Field(False, description="DoRA: the length of each row of a weight is learned by itself.")
    rslora: bool = Field(
        False, description="The adapter's output is scaled by alpha / sqrt(rank), which suits high ranks."
    )


class ModelConfig(Config):
    """Which model is trained, and which of its parts."""

    path: str = Field(EMBEDDED, min_length=1, description="'embedded', a folder, or a name on the Hugging Face hub.")
    revision: str | None = Field(None, description="Commit or tag of a hub model; none: its default branch.")
    family: str | None = Field(
        None,
        description="a model family of your own, path/to/file.py:NAME (docs/extending.md); none: the house knows it.",
    )
    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="Number type of the weights; auto: the one they are stored in."
    )
    device: str = Field("auto", description="'auto' (a GPU if there is one), 'cpu', 'cuda', 'cuda:1', ...")
    device_map: Literal["auto", "balanced", "sequential"] | None = Field(
        None,
        description="Spread the layers over the GPUs of this machine, which then compute one after another; for models "
        "that do not fit on one, on the plain path (docs/models.md). None: all on model.device.",
    )
    freeze: tuple[Part, ...] = Field(
        (), description="Parts that are not trained: vision tower, aligner (its projector), language model."
    )
    lora: LoraConfig | None = Field(None, description="Train adapters instead of the weights; none: full training.")
    quantize: Literal["nf4"] | None = Field(
        None,
        description="QLoRA: hold the language model in 4 bits behind model.lora (bitsandbytes, a GPU of Nvidia's).",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with a hub model. Only for models you trust."
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of a computation; null: torch's choice. For tiny models 1 is best."
    )
    image_threads: int = Field(
        1,
        ge=0,
        description="Threads that open and process the images of the next step while the model computes; 0: none, "
        "images are processed when they are asked for.",
    )
    image_workers: int = Field(
        0,
        ge=0,
        description="Processes that do so instead of threads, for large photographs (dataloader_num_workers of other "
        "tools); each takes about 350 MB. 0: threads.",
    )
    image_cache: str | None = Field(
        None,
        min_length=1,
        description="Folder in which processed images are kept from run to run, about 24 bytes for every pixel the "
        "model sees (Qwen families); runs may share it. null: nothing is kept.",
    )
    image_cache_gb: float = Field(
        20.0, gt=0, description="Once image_cache holds this much nothing more is kept; nothing is removed."
    )
    packed: bool = Field(
        True, description="Compute a prompt once for its whole group; false: the plain path, one row a completion."
    )
    attention: Literal["auto", "sdpa", "flash", "eager"] = Field(
        "auto",
        description="Kernel of the packed row's attention; flash: flash-attention for sequences of different lengths "
        "(GPU, bfloat16); auto: flash if the flash-attn package is there and usable, else sdpa. On the plain path "
        "transformers' own of that name (auto: sdpa); eager is for the plain path alone.",
    )
    cuda_graphs: Literal["auto", "off"] = Field(
        "auto",
        description="Decode steps recorded once and replayed on a GPU, where a token otherwise costs thousands of "
        "launches; their buffers stay in memory between rollouts. off: every step is launched anew.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in backward: less memory, more time."
    )
    min_pixels: int | None = Field(
        None,
        ge=1,
        description="Images are enlarged to at least this many pixels (Qwen families); none: the model's own.",
    )
    max_pixels: int | None = Field(
        None,
        ge=784,
        description="Images are shrunk to at most this many pixels (Qwen families): fewer, faster, coarser.",
    )
    box_frame: Literal["auto", "pixels", "thousand", "unit"] = Field(
        "auto", description="Frame of the boxes the model writes; auto: the one its family was trained with."
    )

    @model_validator(mode="after")
    def _check(self) -> "ModelConfig":
        if self.packed and self.attention == "eager":
            raise ValueError("attention: eager is for the plain path; set packed to false, or attention to sdpa")
        if self.packed and self.device_map is not None:
            raise ValueError(
                "device_map: a packed row stays on one device; set packed to false, or leave device_map out"
            )
        if self.device_map is not None and self.device != "auto":
            raise ValueError(f"device_map: it chooses the devices itself; leave out device {self.device!r}")
        if self.quantize is not None and self.lora is None:
            raise ValueError("quantize: weights in 4 bits cannot be trained; set lora, or leave quantize out")
        if self.lora is not None and not set(self.lora.parts) - set(self.freeze):
            raise ValueError(
                f"lora.parts: {', '.join(self.lora.parts)} is in freeze, so nothing would be trained; take it out of "
                "freeze, or name another part"
            )
        if self.lora is None and len(set(self.freeze)) == 3:
            raise ValueError("freeze: every part is frozen, so nothing would be trained; leave one out, or set lora")
        return self


class SamplingConfig(Config):
    """How completions are drawn."""

    group_size: int = Field(8, ge=1, description="Completions of each prompt (G).")
    temperature: float = Field(1.0, ge=0, description="Sampling temperature; 0 takes the most likely token.")
    top_p: float = Field(1.0, gt=0, le=1, description="Sample from the smallest set of tokens with this probability.")
    top_k: int = Field(0, ge=0, description="Sample from the k most likely tokens; 0: from all.")
    max_new_tokens: int = Field(64, ge=1, description="A completion is cut, and marked truncated, at this many tokens.")
    rows_at_once: int = Field(256, ge=1, description="Most completions that are decoded together; bounds memory.")


RolloutConfig = SamplingConfig
"""The same section under the name that recipes use."""
