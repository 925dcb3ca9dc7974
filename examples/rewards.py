"""Rewards of one's own, in TRL's signature. A recipe names them as ``rewards.py:brief`` (see docs/extending.md)."""

from typing import Any


def brief(completions: list[list[dict[str, str]]], most: int = 40, **columns: Any) -> list[float]:
    """1 for a completion of at most so many words, less the longer it is."""
    counts = [len(completion[0]["content"].split()) for completion in completions]
    return [min(1.0, most / count) if count else 0.0 for count in counts]


def names_a_colour(
    completions: list[list[dict[str, str]]], task: list[str], accuracy: list[float | None], **columns: Any
) -> list[float | None]:
    """1 where the thinking of a right counting answer names a colour; None, no part of the reward, for other tasks."""
    found: list[float | None] = []
    for completion, its_task, right in zip(completions, task, accuracy, strict=True):
        if its_task != "math":
            found.append(None)
            continue
        thinking = completion[0]["content"].partition("</think>")[0].lower()
        found.append(float(right == 1 and any(colour in thinking for colour in ("red", "green", "blue"))))
    return found
