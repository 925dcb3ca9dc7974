"""A box travels with its image: found again in the pixels that the model is given, and back where it was drawn.

Real image processors with the settings of published checkpoints; the only thing that is small is the tokenizer. A red
box on grey is found in the tensor by where red ends, between pixels, so that nothing of the code under test helps.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from byte_tokenizers import byte_level
from PIL import Image, ImageDraw
from transformers import Gemma3Processor, LlavaNextProcessor, PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from curr_reft.data.images import FileImage
from curr_reft.policy.counting import TokenCounter
from curr_reft.policy.families import FAMILIES
from curr_reft.policy.image_text import ImageTextProcessor, InternVLImages, LlavaOnevisionImages, TileProcessor
from curr_reft.policy.processor import ChatProcessor

PAPER_MAX_PIXELS = 401_408  # Curr-ReFT
FACTOR = {"qwen2_vl": 28, "qwen2_5_vl": 28, "qwen3_vl": 32, "qwen3_5": 32}
SIZES = [(640, 480), (420, 700), (1500, 900), (900, 300), (90, 130)]
"""Both ways round, a panorama, one that every bound here shrinks, and one smaller than a tile."""

PLACE = {"gemma3": "<image_soft_token>"}
"""What stands for the features, where the chat template writes something else for an image."""

Box = tuple[float, float, float, float]


def tokenizer(model_type: str) -> PreTrainedTokenizerFast:
    style = tiny_models.style_of(model_type)
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 9) for column in range(1, 9)]
    tokens = ["<pad>", "<s>", "</s>", *dict.fromkeys([*tiny_models.MARKS[style], *tiles])]
    made = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(tokens),
        pad_token="<pad>",
        eos_token="</s>",
        model_specific_special_tokens=tiny_models.NAMED.get(style, {}),
        model_max_length=100_000,
    )
    made.chat_template = tiny_models.build_tokenizer(style).chat_template
    return made


def processor(model_type: str) -> Any:
    """As the published checkpoints are set up, Qwen with the paper's bound on pixels."""
    words = tokenizer(model_type)
    if model_type == "idefics3":
        return TileProcessor(Idefics3ImageProcessorPil(), words, image_seq_len=169, chat_template=words.chat_template)
    if model_type == "smolvlm":
        images = SmolVLMImageProcessorPil(size={"longest_edge": 1536}, max_image_size={"longest_edge": 384})
        return TileProcessor(images, words, image_seq_len=81, chat_template=words.chat_template)
    if model_type == "internvl":
        images = GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, min_patches=1, max_patches=12)
        return InternVLImages(images, words, image_seq_length=256, chat_template=words.chat_template)
    if model_type == "llava_next":
        return LlavaNextProcessor(
            LlavaNextImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
            words,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=words.chat_template,
        )
    if model_type == "llava_onevision":
        return LlavaOnevisionImages(
            LlavaOnevisionImageProcessorPil(),
            words,
            num_image_tokens=729,
            vision_feature_select_strategy="full",
            chat_template=words.chat_template,
        )
    if model_type == "gemma3":
        images = Gemma3ImageProcessorPil(size={"height": 896, "width": 896})
        return Gemma3Processor(images, words, image_seq_length=256, chat_template=words.chat_template)
    patch = FACTOR[model_type] // 2
    images = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=PAPER_MAX_PIXELS, patch_size=patch)
    return ImageTextProcessor(images, words, chat_template=words.chat_template)


@pytest.fixture(scope="module")
def chat() -> Callable[[str], ChatProcessor]:
    made: dict[str, ChatProcessor] = {}

    def of(model_type: str) -> ChatProcessor:
        if model_type not in made:
            made[model_type] = ChatProcessor(processor(model_type), FAMILIES[model_type])
        return made[model_type]

    return of


@dataclass
class Drawn:
    """A picture in memory."""

    picture: Image.Image

    @property
    def key(self) -> str:
        return hashlib.sha256(self.picture.tobytes() + repr(self.size).encode()).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.size

    def open(self) -> Image.Image:
        return self.picture


@dataclass
class Asked:
    images: tuple[Any, ...]
    prompt: str = "Where is the red box?"


def drawn(size: tuple[int, int]) -> tuple[Image.Image, Box]:
    """A red box on grey, off the middle on both axes."""
    width, height = size
    box = (round(0.2 * width), round(0.35 * height), round(0.7 * width), round(0.9 * height))
    picture = Image.new("RGB", size, (64, 64, 64))
    ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=(192, 64, 64))
    return picture, box


def canvas(model_type: str, chat: ChatProcessor, inputs: dict[str, torch.Tensor], seen_tiles: tuple[int, int]) -> Any:
    """The colours (3, height, width) that the model is given, its patches or tiles put together as they are told."""
    pixels, images = inputs["pixel_values"], chat.processor.image_processor
    if "image_grid_thw" in inputs:
        (_, high, wide), p = inputs["image_grid_thw"][0].tolist(), images.patch_size
        grid = pixels.view(high // 2, wide // 2, 2, 2, 3, 2, p, p)[:, :, :, :, :, 0]
        whole = grid.permute(4, 0, 2, 5, 1, 3, 6).reshape(3, high * p, wide * p)
    else:
        tiles = pixels[0] if pixels.dim() == 5 else pixels
        across, down = seen_tiles
        if len(tiles) > 1:
            tiles = tiles[1:] if model_type.startswith("llava") else tiles[:-1]  # the copy of the whole
        assert len(tiles) == across * down
        edge = tiles.shape[-1]
        whole = tiles.view(down, across, 3, edge, edge).permute(2, 0, 3, 1, 4).reshape(3, down * edge, across * edge)
    mean, std = (torch.tensor(each)[:, None, None] for each in (images.image_mean, images.image_std))
    return ((whole * std + mean) * 255).numpy()


def edges(profile: np.ndarray) -> tuple[float, float]:
    """Where a profile rises above half its height, and falls below it, between pixels."""
    level = np.median(profile[profile > profile.max() / 2]) / 2
    inside = np.flatnonzero(profile > level)
    first, last = inside[0], inside[-1]

    def crossing(low: int, high: int) -> float:
        below = profile[low] if 0 <= low < len(profile) else 0.0
        return float((level - below) / (profile[high] - below))

    rise = first - 0.5 + crossing(first - 1, first) if first else 0.0
    after = profile[last + 1] if last + 1 < len(profile) else None
    fall = len(profile) if after is None else last + 0.5 + (profile[last] - level) / (profile[last] - after)
    return float(rise), float(fall)


def found(colours: np.ndarray) -> Box:
    """The red box, in pixels of the canvas."""
    red = colours[0] - colours[1]
    (x1, x2), (y1, y2) = edges(red.sum(0)), edges(red.sum(1))
    return x1, y1, x2, y2


def lit(colours: np.ndarray) -> Box:
    """What is not black: the image between the bars."""
    light = (colours[1] > 32).astype(float)
    (x1, x2), (y1, y2) = edges(light.sum(0)), edges(light.sum(1))
    return x1, y1, x2, y2


def to_frame(box: Box, image: Box, kind: str) -> Box:
    """A box on the canvas, the image of which lies at ``image``, in the words of a model."""
    left, top, right, bottom = image
    largest = {"pixels": (right - left, bottom - top), "thousand": (1000.0, 1000.0), "unit": (1.0, 1.0)}[kind]
    x1, y1, x2, y2 = box
    wide, high = largest[0] / (right - left), largest[1] / (bottom - top)
    return (x1 - left) * wide, (y1 - top) * high, (x2 - left) * wide, (y2 - top) * high


def check_round_trip(model_type: str, chat: ChatProcessor, source: Any, box: Box) -> None:
    encoded = chat.encode_question(Asked((source,)))
    (sight,) = chat.see([source.size]).sights
    images = chat.processor.image_processor
    edge = int(encoded.pixel_inputs["pixel_values"].shape[-1]) if "image_grid_thw" not in encoded.pixel_inputs else 1
    colours = canvas(model_type, chat, encoded.pixel_inputs, (sight.canvas[0] // edge, sight.canvas[1] // edge))
    assert colours.shape[1:] == sight.canvas[::-1]
    here, image = found(colours), lit(colours)
    left, top, wide, high = sight.area
    assert sight.to_canvas(box) == pytest.approx(here, abs=max(1.0, wide / source.size[0], high / source.size[1]))
    assert image == pytest.approx((left, top, left + wide, top + high), abs=1.0)

    said = to_frame(here, image, chat.frame.kind)  # by a model that sees the box exactly
    assert chat.frame.to_original(said, source.size) == pytest.approx(box, abs=1.0)
    assert sight.to_image(here) == pytest.approx(box, abs=1.0)
    largest = chat.frame.extent(source.size)
    truth = chat.frame.to_model(box, source.size)
    pixel = max(largest[0] / source.size[0], largest[1] / source.size[1])
    assert said == pytest.approx(truth, abs=pixel)
    if model_type in FACTOR:
        assert sight.canvas[0] * sight.canvas[1] <= PAPER_MAX_PIXELS
        assert images.size["longest_edge"] == PAPER_MAX_PIXELS


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_box_is_where_it_was_drawn(chat: Callable[[str], ChatProcessor], model_type: str, tmp_path: Path) -> None:
    for size in SIZES:
        picture, box = drawn(size)
        check_round_trip(model_type, chat(model_type), Drawn(picture), box)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_box_on_a_photograph_that_is_turned(
    chat: Callable[[str], ChatProcessor], model_type: str, tmp_path: Path
) -> None:
    """A camera held upright: the file is stored lying, EXIF says so, and boxes are those of the upright picture."""
    picture, box = drawn((360, 600))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=97, subsampling=0)
    with Image.open(tmp_path / "turned.jpg") as stored:
        assert stored.size == (600, 360)
    source = FileImage(tmp_path, "turned.jpg")
    assert source.size == (360, 600)
    check_round_trip(model_type, chat(model_type), source, box)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_tokens_are_counted_without_a_pixel(chat: Callable[[str], ChatProcessor], model_type: str) -> None:
    """Of one image, of several (LLaVA-OneVision then shows each as one tile), and of none."""
    asking = chat(model_type)
    for sizes in ([(640, 480)], [(90, 130)], [(1000, 300)], [(384, 384), (500, 200)], []):
        sources = tuple(Drawn(Image.new("RGB", size)) for size in sizes)
        encoded = asking.encode_question(Asked(sources))
        assert asking.prompt_length(Asked(sources)) == encoded.length
        (counted,) = TokenCounter(asking).count([Asked(sources)])
        assert (counted.tokens, counted.problem) == (encoded.length, None)
        mark = asking.tokenizer.convert_tokens_to_ids(PLACE.get(model_type, asking.processor.image_token))
        assert counted.image_tokens == int((encoded.input_ids_P == mark).sum())
        if sizes:
            bare = len(asking.tokenizer(encoded.text.replace(asking.processor.image_token, ""))["input_ids"])
            costs = asking.image_tokens(sizes)
            assert len(costs) == len(sizes)
            assert abs(sum(costs) + bare - encoded.length) <= len(sizes)  # words around an image may join without it
            shown = int((encoded.input_ids_P == mark).sum())
            assert 0 < shown <= sum(costs) <= shown + 80  # marks, rows and columns


def test_several_images_of_one_prompt(chat: Callable[[str], ChatProcessor]) -> None:
    """LLaVA-OneVision puts each of several images into a square; the others see it as if it were alone."""
    sizes = [(640, 480), (300, 500)]
    for model_type in FAMILIES:
        asking = chat(model_type)
        together = asking.see(sizes).sights
        alone = tuple(asking.see([size]).sights[0] for size in sizes)
        assert (together == alone) == (model_type != "llava_onevision")
    picture, box = drawn((640, 480))
    asking = chat("llava_onevision")
    inputs = asking.encode_question(Asked((Drawn(picture), Drawn(drawn((300, 500))[0])))).pixel_inputs
    sight = asking.see(sizes).sights[0]
    colours = canvas("llava_onevision", asking, {"pixel_values": inputs["pixel_values"][:1]}, (1, 1))
    assert sight.to_canvas(box) == pytest.approx(found(colours), abs=0.6)
    assert sight.to_image(found(colours)) == pytest.approx(box, abs=1.0)
