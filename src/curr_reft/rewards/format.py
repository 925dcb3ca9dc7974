"""The form of a completion: ``<think> reasoning </think> <answer> answer </answer>`` and nothing else.

Curr-ReFT section 3.2. The reference code asks for a box in every form of a detection question, even for yes or no; here
a box is required only where the answer is one.
"""

import re

from curr_reft.tasks.boxes import read_boxes

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WHOLE = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_FIRST_THINK = re.compile(r"<think>.*?</think>", re.DOTALL)


def answer_block(completion: str) -> str | None:
    """The text of the one answer block; None when there is none, more than one, or it stands inside the thinking."""
    if completion.count("<answer>") != 1 or completion.count("</answer>") != 1:
        return None
    start, end = completion.index("<answer>"), completion.index("</answer>")
    if end < start:
        return None
    before = _FIRST_THINK.sub("", completion[:start])
    if "<think>" in before:  # thinking that was never closed: what it tries out is no answer
        return None
    return completion[start + len("<answer>") : end]


def format_reward(completion: str, task: str, form: str) -> float:
    """1.0 for exactly one think and one answer block, in this order, both with text, and only white space around.

    An open answer of detection must hold a JSON box as well (right or wrong, one or more).
    """
    if any(completion.count(tag) != 1 for tag in _TAGS):
        return 0.0
    whole = _WHOLE.fullmatch(completion)
    if whole is None or not whole.group(1).strip() or not whole.group(2).strip():
        return 0.0
    if task == "detection" and form == "open":
        return float(read_boxes(whole.group(2)) is not None)
    return 1.0
