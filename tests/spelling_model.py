"""A tiny random Qwen2.5-VL whose tokenizer spells any text in bytes and whose images are processed by the published
settings: for tests of real questions, which the words of ``tiny_models`` cannot ask."""

from pathlib import Path

import tiny_models
from byte_tokenizers import byte_level
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from curr_reft.policy.image_text import ImageTextProcessor

PAD, END = "<|endoftext|>", "<|im_end|>"


def build_spelling_model(folder: Path, longest: int = 32_768) -> Path:
    """The folder, as ``from_pretrained`` opens it. ``longest`` is the most tokens it takes."""
    marks = [tiny_models.START, *tiny_models.MARKS["qwen"]]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=byte_level([PAD, END, *marks]),
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=marks,
        model_max_length=longest,
    )
    tokenizer.chat_template = tiny_models.build_tokenizer("qwen").chat_template
    config = tiny_models.CONFIGS["qwen2_5_vl"](tokenizer.get_vocab())
    config.text_config.max_position_embeddings = longest
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    images = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=28 * 28 * 1280, patch_size=14)
    ImageTextProcessor(images, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(folder)
    return folder
