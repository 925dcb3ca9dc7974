"""The processes that verify pairs of expressions with math-verify: ``python -m curr_reft.tasks.symbolic_worker FD``.

This one loads computer algebra and forks a worker for each channel that is sent over the control socket ``FD``. To a
worker, one JSON list ``[truth, answer, seconds]`` a line comes in, one JSON word goes out. The pool kills a worker that
exceeds its limit; for the case that nobody is left to do so, every pair also arms an alarm that ends the process.
Nothing here imports torch, and memory is limited, so that a hostile power fails instead of filling the machine.
"""

import functools
import gc
import json
import logging
import os
import signal
import socket
import sys
from typing import Any

MEMORY_LIMIT = 1024**3  # bytes of address space; sympy and the parser need about a tenth
ALARM_MARGIN = 5.0  # seconds beyond the limit after which the worker ends itself


def verify(truth: str, answer: str) -> bool:
    """math-verify, truth first. Both texts are parsed whole, as one LaTeX formula: nothing is picked out of prose."""
    from math_verify import verify as math_verify

    gold, given = _parsed(truth), _parsed(answer)
    if not (gold and given):
        return False
    return bool(math_verify(gold[0], given[0], timeout_seconds=None)) and _as_close_as_written(gold[0], given[0])


@functools.lru_cache(maxsize=512)  # the completions of a group share their truth, and parsing is half of the work
def _parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    return list(parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None))


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


# One of each kind: the parser builds its tables as it meets them, and every forked worker inherits them.
_WARM_UP = (
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("\\frac{1}{2}", "0.5"),
    ("x^{2}+2x+1", "(x+1)^{2}"),
    ("\\frac{\\pi}{4}", "\\pi \\cdot 0.25"),
    ("\\{1, 2\\}", "2, 1"),
    ("(0, 1]", "[0, 1)"),
    ("y=2x", "2x=y"),
    ("\\sin(30^{\\circ})", "\\log_{2}8"),
)


def _work(channel: socket.socket) -> None:
    """Answers the pairs of one channel until it is closed."""
    with channel, channel.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            truth, answer, seconds = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, seconds + ALARM_MARGIN)
            try:
                outcome = "equal" if verify(truth, answer) else "different"
            except (MemoryError, RecursionError, OverflowError):
                outcome = "different"  # beyond any answer that could be right
            except Exception as error:
                outcome = _whose_fault(truth, error)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            channel.sendall((json.dumps(outcome) + "\n").encode())


def _serve(control: socket.socket) -> None:
    """Forks and reaps workers on request, until nobody can ask any more."""
    workers: set[int] = set()
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, 64, 1)
        if not request:
            break
        if descriptors:
            process_id = os.fork()
            if process_id == 0:
                control.close()
                _work(socket.socket(fileno=descriptors[0]))
                os._exit(0)
            os.close(descriptors[0])
            workers.add(process_id)
            control.sendall(str(process_id).encode())
        else:
            process_id = int(request.split()[1])
            os.waitpid(process_id, 0)
            workers.discard(process_id)
            control.sendall(b"reaped")
    for process_id in workers:
        os.kill(process_id, signal.SIGKILL)
        os.waitpid(process_id, 0)


def main() -> None:
    logging.disable(logging.CRITICAL)  # math-verify warns of the missing time limit, which the pool provides
    sys.set_int_max_str_digits(10_000)
    _limit_memory()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the parent's, who ends its workers itself
        signal.signal(number, signal.SIG_IGN)
    for pair in _WARM_UP:
        verify(*pair)
    gc.freeze()  # what is loaded stays shared with the workers
    with socket.socket(fileno=int(sys.argv[1])) as control:
        control.sendall(b"ready")
        _serve(control)


if __name__ == "__main__":
    main()
