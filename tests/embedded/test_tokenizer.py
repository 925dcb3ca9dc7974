"""The embedded tokenizer reads everything its world says, and gives it back to the letter."""

import random

import pytest

from curr_reft.data.frame import BoxFrame
from curr_reft.data.shapes import shapes_items
from curr_reft.embedded.lessons import Manners, description, lesson
from curr_reft.embedded.tokenizer import build_tokenizer
from curr_reft.questions.compile import compile_questions

COUNTS = {"detection": 40, "classification": 40, "math": 40}
TOKENIZER = build_tokenizer()


@pytest.mark.parametrize("split", ["train", "ood_test", "pool"])
def test_every_question_and_answer_of_the_world_makes_the_round_trip(split: str) -> None:
    counts = {**COUNTS, "arithmetic": 40} if split == "pool" else COUNTS
    items = shapes_items(0, split, counts)
    by_id = {item.id: item for item in items}
    made, _ = compile_questions(items, ("binary", "choice", "open"), seed=0, frame=BoxFrame("pixels"), style="short")
    rng = random.Random(0)
    for questions in made.values():
        for question in questions:
            taught = lesson(question, by_id[question.origin], Manners(careless=0.3, bare=0.3), rng)
            for text in (taught.prompt, taught.completion):
                ids = TOKENIZER(text, add_special_tokens=False).input_ids
                assert TOKENIZER.unk_token_id not in ids, text
                assert TOKENIZER.decode(ids) == text


def test_numbers_are_one_token_each_wherever_they_stand() -> None:
    for text, number in (("[14,28]", "28"), ("so 2 plus 84", "84"), ('{"bbox_2d":[7,', "7")):
        assert TOKENIZER.convert_tokens_to_ids(number) in TOKENIZER(text).input_ids


def test_an_unknown_word_is_seen_as_unknown() -> None:
    assert TOKENIZER.unk_token_id in TOKENIZER("find the zebra").input_ids


def test_descriptions_make_the_round_trip() -> None:
    for item in shapes_items(0, "train", {"classification": 20}):
        taught = description(item.images[0])  # type: ignore[arg-type]
        ids = TOKENIZER(taught.completion).input_ids
        assert TOKENIZER.unk_token_id not in ids
        assert TOKENIZER.decode(ids) == taught.completion
