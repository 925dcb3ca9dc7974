"""Shaping against repetition: a charge for saying the same n words again and again.

"Demystifying Long Chain-of-Thought Reasoning" (arXiv 2502.03373, appendix C.2), where models that are paid for length
repeat themselves. TRL has the same measure over tokens (``get_repetition_penalty_reward``).
"""

from collections.abc import Sequence

from curr_reft.rewards.words import ngrams


def repetition_part(units: Sequence[str] | Sequence[int], n: int) -> float:
    """In [-1, 0]: minus the share of runs of n units that stood there before; 0 for fewer than n units."""
    runs = ngrams(units, n)
    return len(set(runs)) / len(runs) - 1.0 if runs else 0.0
