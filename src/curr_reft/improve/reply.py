"""Reads a judge's reply. What is off the menu is no verdict, with its reason, and never a number.

A reply is one JSON object: the whole text, or the only one that stands in it (models put words or a code fence around
it). Two different ones are no verdict, as nobody knows which was meant.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curr_reft.improve.records import CRITERIA

LONGEST = 20_000  # characters that are read; a verdict has some hundreds
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)  # of judges that reason in their reply


class UnusableReplyError(Exception):
    """The reply holds no verdict; the text says why. It never leaves this room."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A verdict as it was read."""

    criteria: Mapping[str, float]
    total: float
    comment: str


def read_reply(text: str) -> Scores:
    """The scores of a reply. Raises UnusableReplyError."""
    text = _THOUGHT.sub("", text[:LONGEST])
    if not text.strip():
        raise UnusableReplyError("empty reply")
    found: list[dict[str, Any]] = []
    for each in _objects(text):
        if (set(each) & {*CRITERIA, "total"}) and each not in found:
            found.append(each)
    if not found:
        raise UnusableReplyError(f"no JSON verdict: the reply is {_short(text)}")
    if len(found) > 1:
        raise UnusableReplyError(f"several verdicts: {len(found)} different ones in one reply")
    (verdict,) = found
    numbers = {name: _number(verdict, name) for name in (*CRITERIA, "total")}
    comment = verdict.get("comment")
    return Scores(
        criteria={name: numbers[name] for name in CRITERIA},
        total=numbers["total"],
        comment=comment if isinstance(comment, str) else "",
    )


def _number(verdict: Mapping[str, Any], name: str) -> float:
    if name not in verdict:
        raise UnusableReplyError(f"missing score: {name}")
    value = verdict[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnusableReplyError(f"not a number: {name} is {_short(value)}")
    if not 0 <= value <= 100 or math.isnan(value):
        raise UnusableReplyError(f"off the scale: {name} is {_short(value)}, not from 0 to 100")
    return float(value)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text, outermost ones, in order."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):  # no JSON from here, a number of thousands of digits, endless brackets
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        text = "a number without end"
    return text if len(text) <= 80 else text[:77] + "..."
