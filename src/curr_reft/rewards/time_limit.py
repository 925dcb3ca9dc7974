"""A limit on the time that a user's function takes, in this very process.

An alarm raises inside the function, wherever Python code, a wait or a regular expression is at work, and the caller
goes on. The function keeps its state and its models, which a process of its own would not have. What an alarm cannot
reach (a computation in C that does not come back to the interpreter, code that catches everything) would hang for good:
for that a watchdog in C, which needs no interpreter, prints the stack and ends this process with exit code 1. The
checkpoints are whole then, and the stack names the function.

Alarms reach the main thread alone. In another thread only the watchdog is at work.
"""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 1.0  # seconds between alarms: a function may swallow the first
GRACE = 15.0  # seconds after the limit, when the watchdog ends the process
_STDERR = 2  # the descriptor: sys.stderr may be anything in a notebook


class TimeLimitReached(BaseException):
    """The time is up. No Exception: a function's own ``except Exception`` is not meant to take it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """What is done in this block may take so long. Raises TimeLimitReached; ends the process where nothing else helps.

    An alarm that was set before (a test runner's) goes on after the block, with the time that is left of it.
    """
    process = os.getpid()
    faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=_STDERR)
    try:
        if threading.current_thread() is threading.main_thread():
            with _alarm(seconds):
                yield
        else:
            yield
    finally:
        if os.getpid() != process:  # a child that the function forked and did not end: it would go on with the run
            os._exit(1)
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    armed = True

    def ring(_: int, __: FrameType | None) -> None:
        if armed:
            raise TimeLimitReached

    started = time.monotonic()
    before, handler = signal.getitimer(signal.ITIMER_REAL), signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        try:
            yield
        finally:
            armed = False  # one that rings before this line is still caught by the outer block
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if before[0]:
            signal.setitimer(signal.ITIMER_REAL, max(before[0] - (time.monotonic() - started), 0.001), before[1])
