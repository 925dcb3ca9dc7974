"""Sizes that a recorded decode step is made for.

A recorded step (``graphs.py``) computes one fixed shape, so shapes are rounded up to few: what is too much is masked or
thrown away. Of a decode step's time on a GPU most is reading weights, which does not grow with rows.
"""

from dataclasses import dataclass, replace

LEAST_PREFIX, LEAST_SUFFIX = 64, 64


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The shape of a recorded step."""

    groups: int  # N
    width: int  # W, rows of a group: A = N * W
    prefix: int  # P, keys of a prompt
    suffix: int  # T, keys of a completion

    @property
    def rows(self) -> int:
        return self.groups * self.width

    def with_suffix(self, tokens: int) -> "Bucket":
        """The same for completions of ``tokens`` tokens."""
        return replace(self, suffix=suffix_bucket(tokens))


def count_bucket(count: int) -> int:
    """1, 2, 3, 4, 6, 8, 12, 16, ...: at most half as many again as there are."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if power >= 4 and count <= power * 3 // 4 else power


def prefix_bucket(tokens: int) -> int:
    """In eighths of a power of two: keys of prompts are read at every step, so there is little to give away."""
    step = max(LEAST_PREFIX, 1 << max(0, (tokens - 1).bit_length() - 4))
    return -(-tokens // step) * step


def suffix_bucket(tokens: int) -> int:
    """Powers of two, so that a rollout goes through few."""
    return max(LEAST_SUFFIX, 1 << (tokens - 1).bit_length())
