"""Tokens of many prompts without a pixel. Every family is held to the real prompt in ``test_sight.py``."""

from dataclasses import dataclass

import pytest
from PIL import Image

from curr_reft.policy import counting
from curr_reft.policy.counting import TokenCounter
from curr_reft.policy.policy import Policy
from curr_reft.policy.processor import ChatProcessor


@dataclass(frozen=True)
class Picture:
    key: str
    size: tuple[int, int] = (84, 84)
    opens: bool = False

    def open(self) -> Image.Image:
        assert self.opens, "counting opens nothing"
        return Image.new("RGB", self.size)


@dataclass(frozen=True)
class Asked:
    prompt: str
    images: tuple[Picture, ...] = ()
    id: str = "rows.jsonl:3/open"


PROMPTS = [
    Asked("list the objects"),
    Asked("find the red circle", (Picture("a"),)),
    Asked("how many blue square", (Picture("b", (56, 112)), Picture("c", (28, 28)))),
    Asked("list the objects", (Picture("d", (84, 84)),)),
]


def seen(asked: Asked) -> Asked:
    return Asked(asked.prompt, tuple(Picture(each.key, each.size, opens=True) for each in asked.images))


def test_counts_are_those_of_the_real_prompts_in_order(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "AT_ONCE", 3)  # the batches do not end where the prompts do
    counts = list(TokenCounter(policy.processor).count(PROMPTS))
    encoded = [policy.processor.encode_question(seen(asked)) for asked in PROMPTS]
    assert [count.tokens for count in counts] == [each.length for each in encoded]
    assert [count.image_tokens for count in counts] == [0, 9, 8 + 1, 9]
    assert [count.problem for count in counts] == [None] * 4


def test_what_the_model_cannot_take_is_said_as_when_it_is_asked(policy: Policy) -> None:
    processor = ChatProcessor(policy.processor.processor, policy.family, max_length=20)
    flat = Asked("find the red circle", (Picture("f", (4000, 10)),))  # no family shows it
    wrong = [PROMPTS[2], Asked("find the zebra"), Asked("the <|image_pad|> here"), flat, PROMPTS[0]]
    counts = list(TokenCounter(processor).count(wrong))
    encoded = processor.prompt_length(PROMPTS[2])
    assert counts[0].problem == (
        f"the prompt has {encoded} tokens and the model takes 20; shorten the text or lower the image's pixels"
    )
    assert counts[1].problem is not None
    assert "' zebra'" in counts[1].problem
    assert counts[2].problem is not None
    assert "placeholders" in counts[2].problem
    assert counts[3].problem is not None
    assert "at most 200 times" in counts[3].problem
    assert counts[4].problem is None
