"""Questions to tensors: template, placeholders, positions, checks, the cache, the frame."""

import importlib.util
import warnings
from dataclasses import dataclass

import pytest
import tiny_models
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing

from curr_reft.errors import DataError
from curr_reft.policy.families import FAMILIES
from curr_reft.policy.processor import ChatProcessor


@dataclass
class Source:
    """An image that counts how often it is opened."""

    key: str
    size: tuple[int, int] = (84, 84)
    opened: int = 0

    def open(self):
        self.opened += 1
        return Image.new("RGB", self.size, (ord(self.key), 0, 0))


@dataclass
class Asked:
    prompt: str
    images: tuple = ()
    id: str = "rows.jsonl:3/open"


def test_prompt_is_the_chat_with_expanded_images(policy, picture):
    encoded = policy.processor.encode("find the red circle", [picture(0), picture(1, 56, 28)])
    ids = encoded.input_ids_P.tolist()
    assert ids.count(policy.core.config.image_token_id) == 9 + 2
    assert policy.processor.tokenizer.decode(ids).replace("<|image_pad|>", "") == (
        "<|im_start|>user\n<|vision_start|><|vision_end|><|vision_start|><|vision_end|>find the red circle<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert encoded.text.count("<|image_pad|>") == 2
    assert encoded.pixel_inputs["pixel_values"].shape[0] == 36 + 8
    assert encoded.positions_AP.shape == (3, encoded.length)
    # 9 visual tokens take the room of 3 positions, 2 of 2.
    assert encoded.positions_AP.max() + 1 == encoded.length - (9 - 3) - (2 - 2)


def test_text_only_prompt(policy):
    encoded = policy.processor.encode("list the objects")
    assert encoded.pixel_inputs == {}
    assert encoded.positions_AP.tolist() == [list(range(encoded.length))] * 3


def test_images_are_processed_once_per_key(policy):
    processor = ChatProcessor(policy.processor.processor, policy.family, positions=policy.processor.positions)
    first, second = Source("a"), Source("b", (56, 56))
    one = processor.encode_question(Asked("find the red circle", (first,)))
    two = processor.encode_question(Asked("list the objects", (Source("a"),)))
    both = processor.encode_question(Asked("list the objects", (first, second)))
    assert one.pixel_inputs["pixel_values"] is two.pixel_inputs["pixel_values"]
    assert (first.opened, second.opened) == (2, 1)  # once alone, once as a pair
    assert torch.equal(both.pixel_inputs["pixel_values"][:36], one.pixel_inputs["pixel_values"])


def test_cache_forgets_the_oldest(policy, monkeypatch):
    monkeypatch.setattr("curr_reft.policy.processor.CACHE_BYTES", 400_000)  # two images of 36 patches
    processor = ChatProcessor(policy.processor.processor, policy.family)
    sources = {key: Source(key) for key in "abc"}
    for key in "abaca":
        processor.encode_question(Asked("list the objects", (sources[key],)))
    assert {key: source.opened for key, source in sources.items()} == {"a": 1, "b": 1, "c": 1}
    processor.encode_question(Asked("list the objects", (sources["b"],)))
    assert sources["b"].opened == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("find the zebra and the yak", r"rows.jsonl:3/open: not in the model's vocabulary: ' yak', ' zebra'"),
        ("find the " * 600, r"has \d+ tokens and the model takes 1024"),
        ("find the <|image_pad|>", "holds 1 image placeholders .* for 0 images"),
    ],
)
def test_refused_prompts(policy, text, message):
    with pytest.raises(DataError, match=message):
        policy.processor.encode_question(Asked(text))


def test_decode_leaves_special_tokens_out(policy):
    tokenizer = policy.processor.tokenizer
    ids = tokenizer("<think> i see</think><answer>yes</answer><|im_end|>")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert policy.processor.decode(torch.tensor(ids)) == "<think> i see</think><answer>yes</answer>"


def test_a_given_completion_ends_as_a_sampled_one(policy):
    tokens = policy.completion_tokens("<answer>yes</answer>")
    assert policy.processor.decode(tokens) == "<answer>yes</answer>"
    assert tokens[-1].item() in policy.end_ids
    with pytest.raises(DataError, match=r"never writes '\[UNK\]'"):
        policy.completion_tokens("zebra")


def test_frame_is_that_of_the_image_the_model_sees(policy, picture):
    """Qwen2.5-VL writes pixels of the resized image: 84 x 63 is shown as 84 x 56."""
    frame = policy.frame
    assert frame.kind == "pixels"
    pixels = policy.processor.encode("list the objects", [picture(0, 84, 63)]).pixel_inputs
    _, rows, columns = pixels["image_grid_thw"][0].tolist()
    assert frame.fit((84, 63)) == (columns * 14, rows * 14) == (84, 56)
    assert frame.to_model((0, 0, 84, 63), (84, 63)) == (0, 0, 84, 56)


@pytest.mark.parametrize("written", [True, False], ids=["by the template", "by the tokenizer"])
def test_a_prompt_starts_once(written):
    """The templates of LLaVA leave the start token to the tokenizer; others write it, and it must not come twice."""
    tokenizer = tiny_models.build_tokenizer("llava")
    tokenizer.bos_token = tiny_models.START
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tiny_models.START} $A", special_tokens=[(tiny_models.START, tokenizer.bos_token_id)]
    )
    if not written:
        tokenizer.chat_template = tokenizer.chat_template.replace(tiny_models.START, "")
    official = tiny_models.build_processor("llava_next", tokenizer)
    encoded = ChatProcessor(official, FAMILIES["llava_next"]).encode("list the objects")
    assert encoded.text.startswith(tiny_models.START) == written
    assert encoded.input_ids_P.tolist().count(tokenizer.bos_token_id) == 1
    message = [{"role": "user", "content": [{"type": "text", "text": "list the objects"}]}]
    expected = official.apply_chat_template(message, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert encoded.input_ids_P.tolist() == expected["input_ids"][0]


@pytest.mark.parametrize("opened", ["<think>\\n", "<think>\\n\\n</think>\\n\\n"], ids=["thinking", "not thinking"])
def test_a_reasoning_block_that_the_template_opens_is_left_to_the_model(opened):
    """Else a completion would begin inside a block whose start is graded but was never written by it."""
    tokenizer = tiny_models.build_tokenizer("qwen")
    plain = ChatProcessor(tiny_models.build_processor("qwen3_vl", tokenizer), FAMILIES["qwen3_vl"])
    expected = plain.encode("list the objects", [Image.new("RGB", (56, 56))])
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant\\n", f"assistant\\n{opened}")
    thinking = ChatProcessor(tiny_models.build_processor("qwen3_vl", tokenizer), FAMILIES["qwen3_vl"])
    encoded = thinking.encode("list the objects", [Image.new("RGB", (56, 56))])
    assert encoded.text == expected.text
    assert "<think>" not in encoded.text


def test_processors_load_without_names_that_transformers_removes(monkeypatch):
    """transformers 5.24 warns at an import of Qwen2_5_VLProcessorKwargs, and 5.29 has no such name."""
    from transformers.models.qwen2_5_vl import processing_qwen2_5_vl

    from curr_reft.policy import image_text

    monkeypatch.delitem(vars(processing_qwen2_5_vl), "Qwen2_5_VLProcessorKwargs", raising=False)
    spec = importlib.util.spec_from_file_location("image_text_anew", image_text.__file__)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec.loader.exec_module(module)
    defaults = module.ImageTextProcessor.valid_processor_kwargs._defaults["text_kwargs"]
    assert defaults["return_mm_token_type_ids"] is module.ImageTextProcessor.return_mm_token_type_ids is True
