"""Which answers can be learned: those that fit into the longest example, and whose text is text and nothing else.

An answer may say ``<image>``, or spell a token of the model's own that stands for a picture or ends its turn. Read back
as text that is a picture that is not there, or an end in the middle of an answer: our own fine-tuning stops at it, and
LLaMA-Factory and ms-swift count it as one picture more than the row has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from curr_reft.policy.counting import TokenCounter
from curr_reft.policy.processor import ChatProcessor
from curr_reft.policy.tokens import marks_of
from curr_reft.train.sft import SftExample

TOO_LONG, SPECIAL_TEXT = "too_long", "special_text"
PLACES = ("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>", "<cot-process>", "<start-image>")
"""What other trainers put something else in place of, wherever it stands in a message: LLaMA-Factory the first three
(its ``extras/constants.py``), ms-swift all (``Template.special_tokens``)."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Why an example cannot be learned."""

    kind: str  # TOO_LONG or SPECIAL_TEXT
    reason: str


def refuse_examples(
    processor: ChatProcessor, examples: Sequence[SftExample], most: int, places: Sequence[str] = ()
) -> list[Refused | None]:
    """Of each example, whose prompt the model can take, why it cannot be learned as one of at most ``most`` tokens, or
    None. No image is opened.

    ``places``: words that question and answer must not hold, for who will read them (``PLACES``)."""
    questions = {example.question.id: example.question for example in examples}
    counts = dict(zip(questions, TokenCounter(processor).count(list(questions.values())), strict=True))
    tokenizer = processor.tokenizer
    marks = marks_of(tokenizer) | {tokenizer.eos_token_id, *_placeholders(processor)}
    found: list[Refused | None] = []
    for example in examples:
        ids = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
        prompt = counts[example.question.id]
        tokens = prompt.tokens + len(ids) + 1  # its end
        place = next((word for word in places if word in example.question.prompt or word in example.completion), None)
        mark = next((tokenizer.convert_ids_to_tokens(each) for each in ids if each in marks), None)
        if place is not None or mark is not None:
            reason = f"holds {place or mark}, which is read as something else than text"
            found.append(Refused(kind=SPECIAL_TEXT, reason=reason))
        elif tokens > most:
            found.append(Refused(kind=TOO_LONG, reason=f"has {tokens} tokens, more than max_length {most}"))
        else:
            found.append(None)
    return found


def _placeholders(processor: ChatProcessor) -> set[int]:
    named = (getattr(processor.processor, name, None) for name in ("image_token_id", "video_token_id"))
    return {each for each in named if each is not None}
