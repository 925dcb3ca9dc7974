"""Idefics3 and SmolVLM: an image becomes tiles, and their placeholders carry rows and columns."""

import json

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from curr_reft.policy.families import FAMILIES
from curr_reft.policy.load import load_processor
from curr_reft.policy.processor import ChatProcessor

MARKS = ["<end>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "\n"]
TILES = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
TEMPLATE = (
    "{% for message in messages %}User: {% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %} {{ part['text'] }} {% endif %}{% endfor %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %} Assistant:{% endif %}"
)


@pytest.fixture(scope="module")
def official():
    words = ["[UNK]", *MARKS, *TILES, "find", "it", "User:", "Assistant:"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[UNK]",
        eos_token="<end>",
        pad_token="<end>",
        additional_special_tokens=[*MARKS, *TILES],
    )
    images = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    return Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE)


@pytest.mark.parametrize(("model_type", "name"), [("idefics3", "Idefics3Processor"), ("smolvlm", "SmolVLMProcessor")])
def test_same_tensors_as_the_official_processor(official, picture, tmp_path, model_type, name):
    official.save_pretrained(tmp_path / "first")
    processor = load_processor(str(tmp_path / "first"), model_type)
    images = [picture(0, 112, 56), picture(1, 50, 50)]
    encoded = ChatProcessor(processor, FAMILIES[model_type]).encode("find it", images)
    expected = official(text=[encoded.text], images=[images], return_tensors="pt", add_special_tokens=False)
    assert encoded.input_ids_P.tolist() == expected["input_ids"][0].tolist()
    assert torch.equal(encoded.pixel_inputs["pixel_values"], expected["pixel_values"])
    assert encoded.pixel_inputs.keys() == {"pixel_values", "pixel_attention_mask"}

    processor.save_pretrained(tmp_path / "second")
    assert json.loads((tmp_path / "second" / "processor_config.json").read_text())["processor_class"] == name
    again = load_processor(str(tmp_path / "second"), model_type)
    assert again.image_seq_len == 4
