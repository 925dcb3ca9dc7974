"""A tiny Qwen2.5-VL with random weights, on disk once a session, and groups to score."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from curr_reft.embedded.architecture import build_model
from curr_reft.embedded.tokenizer import build_tokenizer
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.image_text import ImageTextProcessor
from curr_reft.policy.load import Policy, load_policy
from curr_reft.policy.types import Completion, EncodedPrompt, Group


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    model, tokenizer = build_model(0), build_tokenizer()
    with torch.no_grad():  # far from uniform, so that a wrong position or a wrong token shows
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.5)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    image_processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=112 * 112)
    ImageTextProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Callable[[str], Path]:
    """``folders(model_type)``: a tiny model of that family on disk, built when it is first asked for. Read only."""
    built: dict[str, Path] = {}

    def folder(model_type: str) -> Path:
        if model_type not in built:
            built[model_type] = tiny_models.build_folder(tmp_path_factory.mktemp(model_type), model_type)
        return built[model_type]

    return folder


@pytest.fixture(scope="session")
def policy(model_folder) -> Policy:
    return load_policy(model_folder)


@pytest.fixture
def fresh(model_folder):
    """A policy that a test may change: ``fresh(freeze=("vision",))``."""
    return lambda **options: load_policy(ModelConfig(path=str(model_folder), **options))


@pytest.fixture(scope="session")
def picture():
    def draw(seed: int, width: int = 84, height: int = 84) -> Image.Image:
        pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return draw


@pytest.fixture(scope="session")
def prompts(policy, picture) -> list[EncodedPrompt]:
    """Two images of different size in one prompt, one small image, and no image."""
    encode = policy.processor.encode
    return [
        encode("find the red circle", [picture(0), picture(1, 56, 112)]),
        encode("list the objects", [picture(2, 56, 28)]),
        encode("how many red plus how many blue"),
    ]


@pytest.fixture(scope="session")
def groups(prompts) -> list[Group]:
    """Ragged groups: 3, 2 and 1 completions of 1 to 9 tokens."""
    generator = torch.Generator().manual_seed(1)

    def completion(length: int) -> Completion:
        tokens = torch.randint(10, 200, (length,), generator=generator)
        return Completion(tokens_T=tokens, logprobs_T=torch.zeros(length), text="", truncated=False)

    lengths = [(5, 1, 9), (3, 7), (4,)]
    return [
        Group(prompt=prompt, completions=tuple(completion(length) for length in each))
        for prompt, each in zip(prompts, lengths, strict=True)
    ]
