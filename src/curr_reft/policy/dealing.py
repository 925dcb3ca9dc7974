"""Which process of a run asks which questions: by the work that a prompt is, known before its image is opened."""

import math
from collections.abc import Sequence
from dataclasses import replace

from curr_reft import processes
from curr_reft.data.frame import BoxFrame
from curr_reft.policy.types import Group
from curr_reft.questions.question import Question

PIXELS = 28 * 28  # of the image that the model sees, to a token (Qwen2.5-VL); of other families a rough figure
CHARACTERS = 4  # of text, to a token


def deal_questions(questions: Sequence[Question], frame: BoxFrame) -> list[list[int]]:
    """Places of ``questions`` for every process, about as many prompt tokens for each, the same in all of them."""
    return processes.deal([_tokens(question, frame) for question in questions])


def share_groups(hands: Sequence[Sequence[int]], own: Sequence[Group]) -> list[Group]:
    """The groups of all processes in the order of the questions; ``own`` are those of this one. All must call this."""
    sent = [replace(group, prompt=replace(group.prompt, pixel_inputs={}), here=False) for group in own]
    parts = processes.gather(sent)
    parts[processes.rank()] = list(own)
    return processes.in_order(hands, parts)


def _tokens(question: Question, frame: BoxFrame) -> float:
    seen = sum(math.prod(frame.fit(image.size)) for image in question.images)
    return seen / PIXELS + len(question.prompt) / CHARACTERS
