"""What was chosen, why, and what else it could be: printed, and written into the recipe as comments."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from curr_reft.errors import UsageError


@dataclass(frozen=True)
class Choice:
    """One thing that was chosen."""

    what: str  # "format", "task", ...
    value: str
    why: str
    instead: str = ""  # the alternative, and how to have it


TRIES = 3
"""Times that a person is asked for one thing."""

_FLAGS = (
    (r"options\.(\w+): ([\w-]+)", r"--option \1=\2"),
    (r"needs options\.(\w+) on its entry of the recipe", r"needs --option \1=NAME"),
    (r"options\.(split|style|encoding|delimiter|dataset)\b", r"--option \1=NAME"),
    (r"options\.(\w+)", r'--option "\1=..."'),
    (r"columns\.(\w+)", r"--column \1=NAME"),
    (r"[Ss]et boxes: (\w+) on the entry of the recipe", r"give --boxes \1"),
    (r"[Ss]et boxes on the entry of the recipe", "give --boxes"),
    (r"[Ss]et box_format (\([^)]*\)) on the entry of the recipe", r"give --box-format \1"),
    (r"[Ss]et task on the entry of the recipe to one of", "give --task, one of"),
    (r"name the format or the columns on the entry of the recipe", "give --format or --column"),
    (r"[Ss]et format on the entry of the recipe", "give --format"),
    (r"image_prefix|image_root", "--image-root"),
)
"""Keys of an entry as messages of loaders name them, and the flags of init."""


def as_flags(text: str) -> str:
    """A message about an entry of a recipe in the words of somebody who has no recipe yet."""
    for key, flag in _FLAGS:
        text = re.sub(key, flag, text)
    return text


Ask: TypeAlias = Callable[[str], str]
"""Asks a person; empty when nothing was typed."""


@dataclass(kw_only=True)
class Choices:
    """``ask`` is None where nobody is there to be asked."""

    ask: Ask | None = None
    made: list[Choice] = field(default_factory=list)

    def note(self, what: str, value: str, why: str, instead: str = "") -> str:
        self.made.append(Choice(what, value, why, instead))
        return value

    def of(self, what: str) -> Choice | None:
        return next((choice for choice in self.made if choice.what == what), None)

    def need(self, flag: str, given: str | None, question: str, *, unclear: str = "") -> str:
        """What the flag says, or the answer of a person. Raises UsageError where there is neither, with ``unclear``:
        why it could not be told."""
        if given:
            return given
        for _ in range(TRIES):
            answer = self._asked(f"{unclear + chr(10) if unclear else ''}{question}: ")
            if answer:
                return answer
        raise UsageError(f"{unclear or question + ' is needed'}; give {flag}")

    def pick(self, flag: str, options: Sequence[str], question: str, *, unclear: str) -> str:
        """One of ``options``. Raises UsageError."""
        for _ in range(TRIES):
            answer = self.need(flag, None, f"{question} ({', '.join(options)})", unclear=unclear)
            if answer in options:
                return answer
            unclear = f"{answer!r} is none of them"
        raise UsageError(f"{unclear}; give {flag}, one of {', '.join(options)}")

    def pick_or_type(self, flags: str, options: Sequence[str], question: str, *, unclear: str) -> tuple[str, bool]:
        """(one of ``options``, True), or (any other text, False). A text of one word is asked for again: it may be an
        option that was mistyped. Raises UsageError."""
        for _ in range(TRIES):
            answer = self.need(flags, None, f"{question} ({', '.join(options)})", unclear=unclear)
            if answer in options or len(answer.split()) > 1 or not answer.isascii():
                return answer, answer in options
            unclear = f"{answer!r} is none of the columns; a question has more than one word"
        raise UsageError(f"{unclear}; give {flags}")

    def _asked(self, question: str) -> str:
        """What a person types; empty where nobody is there, and once the input has ended (Ctrl-D)."""
        if self.ask is None:
            return ""
        try:
            return self.ask(question).strip()
        except EOFError:
            self.ask = None
            return ""
