"""What both are measured on: a real Qwen2.5-VL class of 9.7 million random parameters, and prompts with one image.

The text side has the proportions of the 3B model (grouped query heads, tied embeddings), the vision side its mixture of
windowed layers and one layer that sees the whole image. Everything is a function of a seed, so two processes that build
it have the same weights, prompts and pixels.
"""

import hashlib

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from curr_reft.bench.shape import MERGE, PATCH, Shape
from curr_reft.embedded.tokenizer import (
    CHAT_TEMPLATE,
    END,
    IMAGE,
    PAD,
    SPECIAL,
    START,
    UNKNOWN,
    VIDEO,
    VISION_END,
    VISION_START,
)
from curr_reft.policy.image_text import ImageTextProcessor

VOCABULARY = 4096
WIDTH = 256
LARGEST_IMAGE = 1 << 24  # pixels; above it the processor would resize


def build_config() -> Qwen2_5_VLConfig:
    """The measured architecture."""
    ids = {token: number for number, token in enumerate(tokens_of(VOCABULARY))}
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "intermediate_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32_768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": None,
            "eos_token_id": ids[END],
            "pad_token_id": ids[PAD],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 4,
            "hidden_size": WIDTH,
            "intermediate_size": 512,
            "num_heads": 8,
            "out_hidden_size": WIDTH,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "fullatt_block_indexes": [3],
            "window_size": 112,
        },
        image_token_id=ids[IMAGE],
        video_token_id=ids[VIDEO],
        vision_start_token_id=ids[VISION_START],
        vision_end_token_id=ids[VISION_END],
        tie_word_embeddings=True,
    )


def build_model(seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """The model in float32, its weights drawn as transformers does."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(build_config())
    model.generation_config.eos_token_id = model.config.get_text_config().eos_token_id
    return model


def build_processor(vocabulary: int = VOCABULARY) -> ImageTextProcessor:
    """Tokenizer with a word a token, image processor without resizing, chat template."""
    ids = {token: number for number, token in enumerate(tokens_of(vocabulary))}
    core = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"w[0-9]+|[a-z]+|\n|."), behavior="isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[START, VISION_START, VISION_END, IMAGE, VIDEO],
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    images = Qwen2VLImageProcessorPil(min_pixels=(PATCH * MERGE) ** 2, max_pixels=LARGEST_IMAGE)
    return ImageTextProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE)


def suppressed_ids() -> list[int]:
    """Tokens that neither may sample, so that every completion has exactly C tokens: the special ones."""
    return list(range(len(SPECIAL)))


def text_of(shape: Shape, number: int) -> str:
    """The text of prompt ``number``, a token a word."""
    drawn = np.random.default_rng((1, number)).integers(0, VOCABULARY // 2, shape.words)
    return "".join(f"w{word}" for word in drawn)


def image_of(shape: Shape, number: int) -> Image.Image:
    """The image of prompt ``number``: noise, since no cost depends on what it shows."""
    width, height = shape.image_size
    pixels = np.random.default_rng((2, number)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def reward_of(tokens: list[int]) -> float:
    """A number in [0, 1] that differs within a group, so that every group teaches."""
    return sum(tokens) % 97 / 96


def weights_sha256(model: torch.nn.Module) -> str:
    """Of all parameters in the order of their names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def tokens_of(vocabulary: int) -> list[str]:
    """All tokens in the order of their ids: special ones, those of the chat template, words."""
    glue = ("user", "assistant", "system", "\n")
    return [*SPECIAL, *glue, *(f"w{number}" for number in range(vocabulary - len(SPECIAL) - len(glue)))]
