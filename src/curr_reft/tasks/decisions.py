"""A decision in an answer: exactly one of yes, no, true, false, in any case, with the punctuation around it forgiven.

The reference code searches substrings, so that "No, that is not true" counts as yes. Here any other word makes the
answer unreadable: what hedges decides nothing.
"""

from curr_reft.tasks.wrappers import punctuated, unwrapped

DECISIONS = {"yes": True, "true": True, "no": False, "false": False}
LONGEST_ANSWER = 100  # characters, wrappers included

_EDGES = " \t\r\n.,;:!?*_'\"`()[]{}$"


def read_decision(answer: str) -> bool | None:
    """The decision of an answer; None when it is not exactly one decision word."""
    if len(answer.strip()) > LONGEST_ANSWER:
        return None
    return DECISIONS.get(unwrapped(punctuated(answer)).strip(_EDGES).lower())
