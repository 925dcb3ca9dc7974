"""Text as words, for parts of the reward that measure what was written and not what it says."""

import re
from collections.abc import Sequence

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # kana and Han: written without spaces
_WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\W_{_IDEOGRAPH}]+")


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case; every Han character or kana is a word of its own."""
    return _WORD.findall(text.lower())


def ngrams(units: Sequence[str] | Sequence[int], n: int) -> list[tuple[str | int, ...]]:
    """All runs of n neighbours, in order; none when there are fewer than n units."""
    return [tuple(units[start : start + n]) for start in range(len(units) - n + 1)]
