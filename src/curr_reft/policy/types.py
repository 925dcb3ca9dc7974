"""The records that travel between processor, rollout, grading and training. The group is the unit.

Shape letters (legend in CONTRIBUTING.md): P prompt tokens, T completion tokens, G completions a prompt.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class EncodedPrompt:
    """One prompt, chat template applied and images processed once. CPU tensors."""

    input_ids_P: torch.Tensor  # int64
    pixel_inputs: dict[
        str, torch.Tensor
    ]  # what the processor made of the images (pixel_values, image_grid_thw, ...); empty: text only
    text: str  # the prompt after the chat template, image tokens not expanded
    positions_AP: torch.Tensor | None = None  # int64, rotary positions on A axes (3: M-RoPE, 1: a line); none: 0..P-1
    image_end: int = 0  # tokens up to the last of its images; 0: text only, or not known: it shares no beginning

    @property
    def length(self) -> int:
        return int(self.input_ids_P.shape[0])


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One sampled answer. ``tokens_T`` includes the end token when there is one."""

    tokens_T: torch.Tensor  # int64, at least one token
    logprobs_T: torch.Tensor  # float32, of the sampled policy (temperature applied), one per token
    text: str  # decoded without special tokens
    truncated: bool  # hit max_new_tokens before an end token

    @property
    def length(self) -> int:
        return int(self.tokens_T.shape[0])


@dataclass(frozen=True, kw_only=True)
class Group:
    """One prompt and its G completions."""

    prompt: EncodedPrompt
    completions: tuple[Completion, ...]
    here: bool = True  # sampled by this process, which trains on it; those of others come without their images
