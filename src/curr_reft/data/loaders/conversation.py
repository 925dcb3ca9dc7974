"""Turns of a conversation as one question with, maybe, one answer: what ms-swift's and LLaMA-Factory's rows hold.

A conversation of several questions is refused: reinforcement learning asks one question and grades one answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Tags:
    """What a message calls its parts and its roles."""

    role: str = "role"
    content: str = "content"
    user: str = "user"
    assistant: str = "assistant"
    system: str = "system"


@dataclass(frozen=True)
class Exchange:
    """One question; the answer is None where the conversation ends with the question."""

    question: str
    answer: str | None


def exchange(messages: Any, tags: Tags) -> Exchange:
    """Raises ValueError for anything but [system] user [assistant]. A system turn is not kept: how the model is
    addressed is the recipe's to say."""
    if not isinstance(messages, list) or not messages:
        raise ValueError("the conversation must be a list of messages that is not empty")
    turns = [_turn(message, tags, number) for number, message in enumerate(messages, start=1)]
    if turns[0][0] == tags.system:
        turns = turns[1:]
    roles = [role for role, _ in turns]
    if roles == [tags.user]:
        return Exchange(turns[0][1], None)
    if roles == [tags.user, tags.assistant]:
        return Exchange(turns[0][1], turns[1][1])
    raise ValueError(
        f"the conversation must be one question, with at most one answer ({tags.user}, {tags.assistant}); "
        f"its roles are {', '.join(roles) or 'none'}"
    )


def _turn(message: Any, tags: Tags, number: int) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise ValueError(f"message {number} must be an object with {tags.role} and {tags.content}")
    role, content = message.get(tags.role), message.get(tags.content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError(
            f"message {number} needs {tags.role} and {tags.content}, both text; "
            f"keys found: {', '.join(sorted(map(str, message))) or 'none'}"
        )
    return role, content
