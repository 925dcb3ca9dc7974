"""Tokens of many prompts, quickly: no image is opened, and no run of image tokens is spelled out.

An image's tokens follow from its size alone (``sight.py``). What a prompt says beside them is tokenized with a single
image token in place of each run of them, in batches: image tokens are special, so a tokenizer cuts the text there
whatever their number, and the missing ones are added. ``ChatProcessor.encode_question`` gives the same number (a test
holds every family to it).
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curr_reft.data.frame import Size
from curr_reft.errors import DataError
from curr_reft.policy.processor import Askable, ChatProcessor

AT_ONCE = 512
"""Prompts that are tokenized together."""

_MARK = re.compile(r"<[^<>\s]+>")
"""How every family spells the tokens that stand for images."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """Of one prompt."""

    tokens: int  # 0 where the prompt cannot be made at all
    image_tokens: int  # of them, those that stand for pixels
    problem: str | None = None  # why the model cannot take it


class TokenCounter:
    """Counts prompts of one model. What stands for images of one size is made once."""

    def __init__(self, processor: ChatProcessor) -> None:
        self.processor = processor
        self._added = frozenset(processor.tokenizer.get_added_vocab())
        self._short: dict[tuple[Size, ...], tuple[tuple[str, ...], int, int]] = {}

    def count(self, questions: Sequence[Askable]) -> Iterator[Count]:
        """One for each question, in order."""
        for start in range(0, len(questions), AT_ONCE):
            yield from self._count(questions[start : start + AT_ONCE])

    def _count(self, questions: Sequence[Askable]) -> list[Count]:
        made: list[tuple[str, int, int] | str] = []
        for question in questions:
            try:
                replacements, left_out, image_tokens = self._replacements([image.size for image in question.images])
                text = self.processor.prompt_text(question.prompt, replacements, question.prompt[:60])
                made.append((text, left_out, image_tokens))
            except DataError as error:
                made.append(error.reason)
        ids = iter(self.processor.tokens_of([each[0] for each in made if not isinstance(each, str)]))
        counts = []
        for each in made:
            if isinstance(each, str):
                counts.append(Count(tokens=0, image_tokens=0, problem=each))
                continue
            text, left_out, image_tokens = each
            own = next(ids)
            tokens = len(own) + left_out
            problem = self.processor.problem(own, tokens, text)
            counts.append(Count(tokens=tokens, image_tokens=image_tokens, problem=problem))
        return counts

    def _replacements(self, sizes: Sequence[Size]) -> tuple[tuple[str, ...], int, int]:
        """What stands for images of these sizes with every run of image tokens cut to one, how many tokens that leaves
        out, and how many image tokens there are. Raises DataError for a size that cannot be shown."""
        key = tuple(sizes)
        if key not in self._short:
            self._short[key] = self._shortened(key)
        return self._short[key]

    def _shortened(self, sizes: tuple[Size, ...]) -> tuple[tuple[str, ...], int, int]:
        if not sizes:
            return (), 0, 0
        whole = self.processor.replacements(sizes)
        marks = Counter(mark for text in whole for mark in _MARK.findall(text) if mark in self._added)
        if not marks:
            return whole, 0, 0
        token, image_tokens = marks.most_common(1)[0]  # what stands for pixels; rows, columns and borders are fewer
        run = re.compile(f"(?:{re.escape(token)}){{2,}}")
        short = tuple(run.sub(lambda _: token, text) for text in whole)
        return short, image_tokens - sum(text.count(token) for text in short), image_tokens
