"""Verification of mathematical answers: fast where text and fractions decide, in killable worker processes elsewhere.

sympy can hang on a short text, and a hung call inside C code ignores every alarm of its own process, so each pair goes
to a worker process that is killed at its limit (``symbolic_pool.py``); the pair is timed out then. What does not need
computer algebra (letters, text, plain numbers) is decided by ``expression.compare`` before.
"""

import atexit
from collections.abc import Sequence

from curr_reft.tasks.expression import Equality, LatexPair, compare
from curr_reft.tasks.symbolic_pool import WorkerPool

POOL = WorkerPool()
atexit.register(POOL.close)


def verify_all(pairs: Sequence[tuple[str, str]], timeout: float = 2.0, workers: int = 4) -> list[Equality]:
    """Whether each answer equals its truth, for pairs (truth, answer) of text; order is kept.

    The fast path of ``verify``: pairs that need computer algebra are shared among the workers.
    """
    needed: list[LatexPair] = []
    decided: list[Equality | list[int]] = []
    known: dict[LatexPair, int] = {}
    for truth, answer in pairs:
        result = compare(truth, answer)
        if isinstance(result, bool):
            decided.append(Equality.EQUAL if result else Equality.DIFFERENT)
            continue
        for pair in result:
            if pair not in known:
                known[pair] = len(needed)
                needed.append(pair)
        decided.append([known[pair] for pair in result])
    outcomes = POOL.verify_all(needed, timeout, workers) if needed else []
    return [
        result if isinstance(result, Equality) else _all_equal([outcomes[position] for position in result])
        for result in decided
    ]


def verify(truth: str, answer: str, timeout: float = 2.0) -> Equality:
    """Whether one answer equals the truth."""
    return verify_all([(truth, answer)], timeout, 1)[0]


def _all_equal(outcomes: list[Equality]) -> Equality:
    for outcome in (Equality.DIFFERENT, Equality.FAILED, Equality.TIMED_OUT):
        if outcome in outcomes:
            return outcome
    return Equality.EQUAL
