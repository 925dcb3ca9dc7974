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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from curr_reft.escaping import visible

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

    seconds: float
    what: str
    began: float  # on the monotonic clock, as the next two
    rings: float  # when the exception is raised next
    ends: float  # when the watchdog ends the process
    process: int = field(default_factory=os.getpid)
    thread: int = field(default_factory=threading.get_ident)
    over: threading.Event = field(default_factory=threading.Event)
    before: "_Before | None" = None  # of the main thread, once it is rung
    alarm_rang: bool = False  # the one of before


@dataclass(frozen=True)
class _Before:
    """What a block found, and leaves so. Handlers are as signal.getsignal has them, timers as signal.getitimer."""

    handler: Any
    timer: tuple[float, float]
    alarm_handler: Any
    alarm: tuple[float, float]


_rung: list[_Limit] = []  # of the main thread, the outermost first
_watched: list[_Limit] = []  # of all threads, those of each the outermost first


@contextmanager
def limited(seconds: float, what: str) -> Iterator[None]:
    """What is done in this block may take so long. Raises TimeLimitReached; ends the process where nothing else helps.

    ``what`` names in the log who took the signal for itself, or left an alarm behind. Alarms (SIGALRM) that were set
    before the block go on after it.
    """
    now = time.monotonic()
    limit = _Limit(seconds=seconds, what=what, began=now, rings=now + seconds, ends=now + seconds + GRACE)
    try:
        try:
            _watched.append(limit)
            _watch()
            if threading.current_thread() is threading.main_thread():
                _begin_to_ring(limit)
            yield
        finally:
            _leave(limit)
    finally:
        # Once more: its own signal, or that of a block around it, may have broken off the first.
        _leave(limit)


def _leave(limit: _Limit) -> None:
    """End a block, and those in it whose own end was broken off; nothing where that is done."""
    end_forked_child(limit.process, limit.what)
    if limit not in _watched:
        return
    if limit in _rung:
        del _rung[_rung.index(limit) :]  # it rings no more
    own = [each for each in _watched if each.thread == limit.thread]
    inner = own[own.index(limit) :]
    for each in inner:
        each.over.set()
    if limit.before is not None:
        _put_back(limit, limit.before)
    for each in reversed(inner):
        _watched.remove(each)
    _watch()


def end_forked_child(process: int, what: str) -> None:
    """End this process at once if it is not ``process``: a child that returns from a user's code into ours would
    continue the run beside its parent."""
    if os.getpid() != process:
        with suppress(OSError):
            message = f"error: a process that {what} forked returned from it, and was ended; end it with os._exit\n"
            os.write(_STDERR, visible(message).encode())
        os._exit(1)


def _watch() -> None:
    """Set the one watchdog there is to the block that ends first."""
    if _watched:
        left = min(limit.ends for limit in _watched) - time.monotonic()
        faulthandler.dump_traceback_later(max(left, 0.001), exit=True, file=_STDERR)
    else:
        faulthandler.cancel_dump_traceback_later()


def _begin_to_ring(limit: _Limit) -> None:
    def send() -> None:
        delay = limit.seconds
        while not limit.over.wait(delay):
            signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
            delay = AGAIN

    before = limit.before = _Before(
        handler=signal.getsignal(SIGNAL),
        timer=signal.getitimer(signal.ITIMER_VIRTUAL),
        alarm_handler=signal.getsignal(signal.SIGALRM),
        alarm=signal.getitimer(signal.ITIMER_REAL),
    )

    def note_alarm(number: int, frame: FrameType | None) -> None:
        limit.alarm_rang = True
        before.alarm_handler(number, frame)

    signal.signal(SIGNAL, _ring)
    if callable(before.alarm_handler):
        signal.signal(signal.SIGALRM, note_alarm)
    threading.Thread(target=send, daemon=True, name="time limit").start()
    signal.setitimer(signal.ITIMER_VIRTUAL, WORK, WORK)
    _rung.append(limit)


def _put_back(limit: _Limit, before: _Before) -> None:
    signal.setitimer(signal.ITIMER_VIRTUAL, *before.timer)
    if signal.getsignal(SIGNAL) is not _ring:
        log.warning(
            "%s took SIGVTALRM for itself, by which its time is limited: had it not returned, the process would "
            "have been ended. Let it use SIGALRM, or a process of its own",
            limit.what,
        )
    # A signal under way must not meet the system's own way with it, which is to end the process.
    signal.signal(SIGNAL, before.handler if before.handler not in (signal.SIG_DFL, None) else _ring)
    _put_alarm_back(limit, before)


def _put_alarm_back(limit: _Limit, before: _Before) -> None:
    """An alarm of before (a test runner's) goes on with the time that is left of it, whatever the block did to it; one
    that the block left behind would end the run minutes later, and is taken back."""
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    first, interval = before.alarm
    if first and not limit.alarm_rang:
        signal.setitimer(signal.ITIMER_REAL, max(first - (time.monotonic() - limit.began), 0.001), interval)
    elif first and interval:
        signal.setitimer(signal.ITIMER_REAL, left or interval, interval)
    elif left:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        log.warning("%s left an alarm behind that was to ring in %.1f s; it was taken back", limit.what, left)
    if before.alarm_handler is not None:
        signal.signal(signal.SIGALRM, before.alarm_handler)


def _ring(_: int, __: FrameType | None) -> None:
    now = time.monotonic()
    for limit in _rung:
        if now >= limit.rings - EARLY:
            limit.rings = now + AGAIN
            raise TimeLimitReached
