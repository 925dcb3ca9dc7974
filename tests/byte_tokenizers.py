"""Tokenizers that spell any text, as published ones do: in bytes, or in characters with bytes behind them."""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = (
    "First reason step by step between <think> and </think>, then give only the final answer between <answer> and "
    "</answer>. The final answer is exactly one word: yes or no. The final answer is the letter of the one right "
    'option. one bounding box as JSON, {"bbox_2d": [x1, y1, x2, y2]}, with the top left and the bottom right corner in '
    "pixels of the image as shown on a scale from 0 to 1000 across the width and height of the image. Statement: its "
    "bounding box is. Which of these is its bounding box? Is the statement true? How many objects are in the image? "
    "Find the red circle. list the objects: square, triangle, blue, green, yellow. category names, separated by commas."
)
"""What words are learned from; anything else is spelled in bytes."""


def byte_level(tokens: Sequence[str]) -> Tokenizer:
    """As GPT-2, Qwen and SmolLM spell words: bytes, a few of them merged."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator([CORPUS], trainer)
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return core


def byte_fallback(tokens: Sequence[str]) -> Tokenizer:
    """As Gemma spells words: characters, and bytes for those it does not know; a space is a low line."""
    letters = sorted(set(CORPUS.replace(" ", "▁")))
    words = [*tokens, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {word: place for place, word in enumerate(words)}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return core
