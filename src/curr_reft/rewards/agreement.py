"""Shaping by agreement: the answer that the thinking arrives at must be the one in the answer block.

Embodied-R (arXiv 2504.12680) found models that think one thing and answer another, and has a reference model say which
answer the thinking leads to. Here a rule does: the last thing the thinking concludes is graded by the very grader of
the answer. It never pays a wrong answer, because only a right one is asked; nor a broken form; nor thinking that holds
nothing but the conclusion, words of the question, or one conclusion after the other.

What it does not see: whether the reasoning before the conclusion is sound. That takes a judge.
"""

import re
from typing import NamedTuple

from curr_reft.rewards.words import ngrams, words

COPIED = 4  # this many words in a row that also stand in the prompt are a copy of it
CONCLUSIONS = 2  # a thinking may correct itself once; more different conclusions are a list of options

_MARK = re.compile(
    r"\b(?:the\s+|my\s+)?(?:final\s+|correct\s+|right\s+)?(?:answer|option|choice|decision|box)\s*(?:is\b|are\b|:|=)\s*:?\s*",
    re.IGNORECASE,
)
_LEAD = re.compile(r"^(?:(?:so|thus|therefore|hence|then|=+>?|→)(?:\s*[,:]\s*|\s+))+", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?。！？]\s+|\n+")


class Conclusion(NamedTuple):
    """The end of a thinking block: what it concludes, and the reasoning before that."""

    answer: str
    reasoning: str


def conclusion(completion: str) -> Conclusion | None:
    """What the think block of a completion of the right form concludes; None when it concludes nothing, or too much.

    The text after the last "the answer is", to the end of the block; without such words the last sentence.
    """
    thinking = completion.partition("<think>")[2].partition("</think>")[0].strip()
    marks = list(_MARK.finditer(thinking))
    if len({_first_sentence(thinking[mark.end() :]) for mark in marks}) > CONCLUSIONS:
        return None
    if marks:
        return Conclusion(thinking[marks[-1].end() :].strip(), thinking[: marks[-1].start()])
    ends = [end.end() for end in _SENTENCE_END.finditer(thinking)]
    start = ends[-1] if ends else 0
    last = _LEAD.sub("", thinking[start:]).strip()
    return Conclusion(last, thinking[:start]) if last else None


def own_words(reasoning: str, prompt: str) -> int:
    """How many different words the reasoning has beside what it copies from the prompt."""
    said = words(reasoning)
    asked = set(ngrams(words(prompt), COPIED))
    copied: set[int] = set()
    for start, run in enumerate(ngrams(said, COPIED)):
        if run in asked:
            copied.update(range(start, start + COPIED))
    return len({word for place, word in enumerate(said) if place not in copied})


def _first_sentence(text: str) -> str:
    return " ".join(words(_SENTENCE_END.split(text, maxsplit=1)[0]))
