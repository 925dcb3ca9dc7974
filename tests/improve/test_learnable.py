"""Answers that no training could read are told before the start, or counted when answers are selected: never later."""

from dataclasses import replace

import pytest
import tiny_run
from judged_rows import RIGHT, candidate, config, question, verdict

from curr_reft.cli import main
from curr_reft.improve.select import select, told_short
from curr_reft.policy.config import EMBEDDED, ModelConfig
from curr_reft.policy.load import load_chat_processor
from curr_reft.policy.processor import ChatProcessor
from curr_reft.train.learnable import PLACES, SPECIAL_TEXT, TOO_LONG, refuse_examples
from curr_reft.train.sft import SftExample

MOST = 100


@pytest.fixture(scope="module")
def processor() -> ChatProcessor:
    return load_chat_processor(ModelConfig(path=EMBEDDED))


def kinds(processor: ChatProcessor, *completions: str, prompt: str = "how many", most: int = MOST) -> list[str | None]:
    asked = replace(question("a"), prompt=prompt)
    examples = [SftExample(question=asked, completion=text) for text in completions]
    return [found and found.kind for found in refuse_examples(processor, examples, most, PLACES)]


def test_the_longest_example_is_the_longest_that_training_takes(processor: ChatProcessor) -> None:
    asked = question("a")
    prompt = processor.encode_question(replace(asked, prompt="how many circle")).input_ids_P.shape[0]
    answer = len(processor.tokenizer(RIGHT, add_special_tokens=False)["input_ids"])
    whole = prompt + answer + 1  # with its end
    for most, found in ((whole - 1, TOO_LONG), (whole, None), (16, TOO_LONG)):
        assert kinds(processor, RIGHT, prompt="how many circle", most=most) == [found]


@pytest.mark.parametrize("text", ["<image>", "<video>", "<bbox>", "<|image_pad|>", "<|vision_start|>", "<|im_end|>"])
def test_text_that_is_read_as_something_else_is_refused_wherever_it_stands(processor: ChatProcessor, text: str) -> None:
    hostile = (f"{text} 5", f"5{text}", RIGHT.replace("so", text), RIGHT + text)
    assert kinds(processor, *hostile) == [SPECIAL_TEXT] * len(hostile)
    assert kinds(processor, RIGHT) == [None]
    if text in PLACES:
        assert kinds(processor, RIGHT, prompt=f"how many {text}") == [SPECIAL_TEXT]
        (found,) = refuse_examples(
            processor, [SftExample(question=question("a"), completion=f"5 {text}")], MOST, PLACES
        )
        assert found is not None
        assert found.reason == f"holds {text}, which is read as something else than text"


def test_the_next_best_answer_of_the_query_is_kept_and_the_others_are_counted() -> None:
    asked = question("a")
    answers = [candidate(asked, RIGHT, number) for number in range(3)]
    found = [verdict(each, total) for each, total in zip(answers, (99, 95, 90), strict=True)]
    unlearnable = {answers[0].id: TOO_LONG, answers[1].id: SPECIAL_TEXT}
    selected = select(answers, found, config(), 0, unlearnable)
    assert [entry.candidate.sample for entry in selected.kept] == [2]
    assert list(selected.fates.values()) == [TOO_LONG, SPECIAL_TEXT, "kept"]
    fates = selected.account["by_domain"]["math"]["fates"]
    assert (fates[TOO_LONG], fates[SPECIAL_TEXT], sum(fates.values())) == (1, 1, 3)
    (told,) = told_short(selected.account)
    assert "1 longer than sft.max_length" in told
    assert "1 with text that stands for something else" in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--sft.max_length", "16"), "tokens, more than max_length 16; take the row out, or raise sft.max_length"),
        (
            ("--self_improvement.sft.max_length", "16"),
            "self_improvement.sft.max_length 16 leaves no room for an answer; take the query out, or raise max_length",
        ),
    ],
)
def test_what_is_known_to_be_too_long_is_refused_before_the_start(
    flags: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tiny_run.RECIPE), *flags]) == 2
    said = capsys.readouterr().err
    assert said.count(told) > 1, said  # every row, not the first alone
