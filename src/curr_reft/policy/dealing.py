"""Which process of a run asks which questions: by the work that a prompt is, known before its image is opened."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from curr_reft import processes
from curr_reft.data.frame import BoxFrame
from curr_reft.data.item import images_key
from curr_reft.policy.beginnings import together
from curr_reft.policy.types import Group
from curr_reft.questions.question import Question

PIXELS = 28 * 28  # of the image that the model sees, to a token (Qwen2.5-VL); of other families a rough figure
CHARACTERS = 4  # of text, to a token


def by_image(questions: Sequence[Question]) -> list[int]:
    """Places of ``questions``, those about one image as neighbours where the first of them stands."""
    return together([images_key(question.images) or place for place, question in enumerate(questions)])


def deal_questions(questions: Sequence[Question], frame: BoxFrame) -> list[list[int]]:
    """Places of ``questions`` for every process, about as many prompt tokens for each, the same in all of them.

    Questions about one image go to one process, which computes once what they share, as far as they are no more than
    every process's even share.
    """
    most = math.ceil(len(questions) / processes.count())
    units: list[list[int]] = []
    for _, members in groupby(by_image(questions), key=lambda place: images_key(questions[place].images) or place):
        places = list(members)
        units += [places[start : start + most] for start in range(0, len(places), most)]
    dealt = processes.deal([_tokens([questions[place] for place in unit], frame) for unit in units])
    return [sorted(place for number in hand for place in units[number]) for hand in dealt]


def share_groups(hands: Sequence[Sequence[int]], own: Sequence[Group]) -> list[Group]:
    """The groups of all processes in the order of the questions; ``own`` are those of this one. All must call this."""
    sent = [replace(group, prompt=replace(group.prompt, pixel_inputs={}), here=False) for group in own]
    parts = processes.gather(sent)
    parts[processes.rank()] = list(own)
    return processes.in_order(hands, parts)


def _tokens(questions: Sequence[Question], frame: BoxFrame) -> float:
    """Of questions about the same images."""
    seen = sum(math.prod(frame.fit(image.size)) for image in questions[0].images)
    return seen / PIXELS + sum(len(question.prompt) for question in questions) / CHARACTERS
