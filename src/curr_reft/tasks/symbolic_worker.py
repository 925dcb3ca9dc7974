"""The process that verifies pairs of expressions with math-verify: ``python -m curr_reft.tasks.symbolic_worker``.

One JSON list ``[truth, answer, seconds]`` a line comes in, one JSON word goes out. The parent kills a worker that
exceeds its limit; for the case that the parent is gone by then, every pair also arms an alarm that ends the process.
It never imports torch, and its memory is limited, so that a hostile power fails instead of filling the machine.
"""

import json
import logging
import signal
import sys

MEMORY_LIMIT = 2 * 1024**3  # bytes of address space; sympy and the parser need about a tenth
ALARM_MARGIN = 5.0  # seconds beyond the limit after which the worker ends itself


def verify(truth: str, answer: str) -> bool:
    """math-verify, truth first. Both texts are parsed whole, as one LaTeX formula: nothing is picked out of prose."""
    from math_verify import LatexExtractionConfig, parse
    from math_verify import verify as math_verify

    parsed = [
        parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None)
        for text in (truth, answer)
    ]
    if not all(parsed):
        return False
    gold, given = parsed[0][0], parsed[1][0]
    return bool(math_verify(gold, given, timeout_seconds=None)) and _as_close_as_written(gold, given)


def _as_close_as_written(truth: object, answer: object) -> bool:
    """math-verify rounds to six decimals, which makes 0.0000001 equal to 0.0000002: ask for six digits as well."""
    from sympy import Expr

    if not (isinstance(truth, Expr) and isinstance(answer, Expr) and truth.is_number and answer.is_number):
        return True
    first, second = complex(truth.evalf()), complex(answer.evalf())
    # A percentage equals its value and its number (50% is 0.5 and 50), as in math-verify.
    return any(abs(first - second * scale) <= 2e-6 * max(abs(first), 1e-300) for scale in (1.0, 0.01, 100.0))


def _whose_fault(truth: str, error: Exception) -> str:
    """An answer that breaks the parser or sympy is not verified; only a truth that does leaves us without a score."""
    try:
        return "different" if verify(truth, truth) else f"failed: the truth is not equal to itself ({error})"[:300]
    except Exception as other:
        return f"failed: {type(other).__name__}: {other}"[:300]


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not a POSIX system: the time limit alone protects there
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    except (ValueError, OSError):  # macOS refuses this limit: the time limit alone protects there, too
        return


def main() -> None:
    logging.disable(logging.CRITICAL)  # math-verify warns of the missing time limit, which the parent provides
    sys.set_int_max_str_digits(10_000)
    _limit_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends its workers itself
    answers = sys.stdout
    sys.stdout = sys.stderr  # nothing a library prints may be taken for an answer
    verify("1", "1")  # loads sympy and the parser before the clock of the first pair runs
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        truth, answer, seconds = json.loads(line)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, seconds + ALARM_MARGIN)
        try:
            outcome = "equal" if verify(truth, answer) else "different"
        except (MemoryError, RecursionError, OverflowError):
            outcome = "different"  # beyond any answer that could be right
        except Exception as error:
            outcome = _whose_fault(truth, error)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        print(json.dumps(outcome), file=answers, flush=True)


if __name__ == "__main__":
    main()
