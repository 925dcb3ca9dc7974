"""A limit on the time that a user's function takes, in this very process.

A signal raises inside the function, wherever Python code, a wait or a regular expression is at work, and the caller
goes on. The function keeps its state and its models, which a process of its own would not have. What a signal cannot
reach (a computation in C that does not come back to the interpreter, code that catches everything) would hang for good:
for that a watchdog in C, which needs no interpreter, prints the stack and ends this process with exit code 1. The
checkpoints are whole then, and the stack names the function.

The signal is SIGVTALRM and not SIGALRM, which functions use themselves: math-verify, and with it TRL's accuracy reward,
sets an alarm of its own and then clears whatever alarm there is. It has two senders. A thread sends it when the time is
up, which ends waits and Python code; a timer of the system sends it after every ``WORK`` seconds of the processor's
time, which ends a regular expression, whose search lets no other thread run. Only what comes after the end of the time
raises.

Signals reach the main thread alone. In another thread only the watchdog is at work.
"""

import faulthandler
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNAL = signal.SIGVTALRM
WORK = 0.1  # seconds of the processor between two signals of the system's timer
AGAIN = 1.0  # seconds between two exceptions: a function may swallow the first
GRACE = 15.0  # seconds after the limit, when the watchdog ends the process
EARLY = 0.01  # seconds by which a signal may come before its time and still count
_STDERR = 2  # the descriptor: sys.stderr may be anything in a notebook

log = logging.getLogger(__name__)


class TimeLimitReached(BaseException):
    """The time is up. No Exception: a function's own ``except Exception`` is not meant to take it."""


@dataclass(eq=False)
class _Limit:
    """One block under way; blocks may stand in one another, and in several threads."""

    rings: float  # when the exception is raised next, on the monotonic clock
    ends: float  # when the watchdog ends the process


_rung: list[_Limit] = []  # of the main thread, the outermost first
_watched: list[_Limit] = []  # of all threads


@contextmanager
def limited(seconds: float, what: str) -> Iterator[None]:
    """What is done in this block may take so long. Raises TimeLimitReached; ends the process where nothing else helps.

    ``what`` names in the log who took the signal for itself, or left an alarm behind. Alarms (SIGALRM) that were set
    before the block go on after it.
    """
    process, now = os.getpid(), time.monotonic()
    limit = _Limit(rings=now + seconds, ends=now + seconds + GRACE)
    _watched.append(limit)
    _watch()
    try:
        if threading.current_thread() is threading.main_thread():
            with _alarms_of_before(what), _ringing(limit, seconds, what):
                yield
        else:
            yield
    finally:
        if os.getpid() != process:  # a child that the function forked and did not end: it would go on with the run
            os._exit(1)
        _watched.remove(limit)
        _watch()


def _watch() -> None:
    """Set the one watchdog there is to the block that ends first."""
    if _watched:
        left = min(limit.ends for limit in _watched) - time.monotonic()
        faulthandler.dump_traceback_later(max(left, 0.001), exit=True, file=_STDERR)
    else:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _ringing(limit: _Limit, seconds: float, what: str) -> Iterator[None]:
    over = threading.Event()

    def send() -> None:
        delay = seconds
        while not over.wait(delay):
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
            delay = AGAIN

    before, timer = signal.signal(SIGNAL, _ring), signal.getitimer(signal.ITIMER_VIRTUAL)
    sender = threading.Thread(target=send, daemon=True, name="time limit")
    try:
        try:
            sender.start()
            signal.setitimer(signal.ITIMER_VIRTUAL, WORK, WORK)
            _rung.append(limit)
            yield
        finally:
            # One that rings before this line is still caught by the outer block.
            if limit in _rung:
                _rung.remove(limit)
    finally:
        if limit in _rung:
            _rung.remove(limit)
        over.set()
        sender.join()
        signal.setitimer(signal.ITIMER_VIRTUAL, *timer)
        if signal.getsignal(SIGNAL) is not _ring:
            log.warning(
                "%s took SIGVTALRM for itself, by which its time is limited: had it not returned, the process would "
                "have been ended. Let it use SIGALRM, or a process of its own",
                what,
            )
        # A signal under way must not meet the system's own way with it, which is to end the process.
        signal.signal(SIGNAL, before if before not in (signal.SIG_DFL, None) else _ring)


def _ring(_: int, __: FrameType | None) -> None:
    now = time.monotonic()
    for limit in _rung:
        if now >= limit.rings - EARLY:
            limit.rings = now + AGAIN
            raise TimeLimitReached


@contextmanager
def _alarms_of_before(what: str) -> Iterator[None]:
    """An alarm of before (a test runner's) goes on with the time that is left of it, whatever the block did to it; one
    that the block left behind would end the run minutes later, and is taken back."""
    started = time.monotonic()
    timer, handler = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)
    try:
        yield
    finally:
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        if timer[0]:
            signal.setitimer(signal.ITIMER_REAL, max(timer[0] - (time.monotonic() - started), 0.001), timer[1])
        elif left:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            log.warning("%s left an alarm behind that was to ring in %.1f s; it was taken back", what, left)
        if handler is not None:
            signal.signal(signal.SIGALRM, handler)
