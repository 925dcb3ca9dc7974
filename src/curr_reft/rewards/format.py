"""The form of a completion: ``<think> reasoning </think> <answer> answer </answer>`` and nothing else.

Curr-ReFT section 3.2. The reference code asks for a box in every form of a detection question, even for yes or no; here
a box is required only where the answer is one.
"""

import re
import unicodedata

from curr_reft.tasks import TASKS

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WHOLE = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)


def answer_block(completion: str) -> str | None:
    """The text of the one answer block; None when there is none, more than one, or it stands inside the thinking."""
    if completion.count("<answer>") != 1 or completion.count("</answer>") != 1:
        return None
    start, end = completion.index("<answer>"), completion.index("</answer>")
    if end < start:
        return None
    before = completion[:start]
    # Thinking that is still open: what it tries out is no answer. A second <think> inside the first opens no exit.
    if before.count("<think>") > before.count("</think>") or before.rfind("<think>") > before.rfind("</think>"):
        return None
    return completion[start + len("<answer>") : end]


def format_reward(completion: str, task: str, form: str) -> float:
    """1.0 for exactly one think and one answer block, in this order, both with text, and only white space around.

    An open answer must have the form its task asks for as well: a JSON box for detection, right or wrong.
    """
    if any(completion.count(tag) != 1 for tag in _TAGS):
        return 0.0
    whole = _WHOLE.fullmatch(completion)
    if whole is None or not all(map(_holds_text, whole.groups())):
        return 0.0
    return float(form != "open" or TASKS[task].well_formed(whole.group(2)))


def _holds_text(block: str) -> bool:
    """Whether a block holds a character that can be seen: zero-width ones and white space are none."""
    return any(unicodedata.category(character)[0] not in "CZ" for character in block)
