"""Which tokens end a completion, and which are never sampled."""

from typing import Any

import torch

from curr_reft.errors import UsageError

_MARKS = (
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<IMG_CONTEXT>",
    "<img>",
    "</img>",
    "<video>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
)
_CONFIGURED = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id")
# Named by the tokenizers of InternVL and Gemma 3; by attribute, as a checkpoint may spell them otherwise.
_NAMED = ("start_image_token", "end_image_token", "context_image_token", "video_token", "boi_token", "eoi_token")


def find_end_ids(core: Any, tokenizer: Any) -> tuple[int, ...]:
    """The end tokens of the generation config, and the tokenizer's. Raises UsageError where there is none."""
    named = core.generation_config.eos_token_id
    ids = [named] if isinstance(named, int) else list(named or ())
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.append(tokenizer.eos_token_id)
    if not ids:
        raise UsageError("the model has no end token; set eos_token_id in its generation_config.json")
    return tuple(ids)


def marks_of(tokenizer: Any) -> set[int]:
    """The placeholders and marks of images and videos that the tokenizer knows, its padding and its unknown token."""
    known = tokenizer.get_vocab()
    found = {known.get(mark) for mark in _MARKS}
    found.update(known.get(getattr(tokenizer, name, None)) for name in _NAMED)
    found.update(token for word, token in known.items() if word.startswith("<row_"))  # Idefics3's tiles
    found.update((tokenizer.pad_token_id, tokenizer.unk_token_id))
    return {each for each in found if each is not None}


def token_bias(core: Any, tokenizer: Any, end_ids: tuple[int, ...]) -> torch.Tensor:
    """float32 (V): the lowest float at tokens that are never sampled, 0 elsewhere.

    Never sampled: rows of the output layer without a token (padded vocabularies), the placeholders and marks of images
    and videos, the padding token and the unknown token, unless one of them ends a completion.
    """
    size = int(core.get_output_embeddings().weight.shape[0])
    never: set[Any] = set(range(size)) - set(tokenizer.get_vocab().values())
    never.update(getattr(core.config, name, None) for name in _CONFIGURED)
    never.update(marks_of(tokenizer))
    bias_V = torch.zeros(size)
    suppressed = sorted(each for each in never if each is not None and each < size and each not in end_ids)
    bias_V[suppressed] = torch.finfo(torch.float32).min
    return bias_V
