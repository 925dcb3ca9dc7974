"""How a run ends by signals, and what it outlives.

SIGTERM (a scheduler's, a container's), SIGINT (Ctrl-C) and SIGHUP (a terminal that is closed) stop a run where nothing
is lost. The exit code is 128 plus the number of the signal, as shells and schedulers count it: 143, 130, 129. Where
SIGHUP is ignored from the start, as under ``nohup``, it stays ignored.

The first signal asks. Between trainings it ends the run at once, by an exception: what was finished is on the disk.
Inside ``held`` it is only noted, and the run ends at the next ``point``: places where what is under way can be thrown
away (the next token of a rollout, the next micro-batch), and none where weights are half written. A second signal
ends the process as if nobody had listened: what is on the disk stands that, as it stands kill -9.

Several processes of one run must leave at the same place, so there a signal is noted too, and ``processes`` asks for
it where all of them meet.

A child that was forked of a process that listens is nobody's run: SIGTERM ends it as any process. (A user's reward may
use a pool, and waits for it.) Of Ctrl-C, which a terminal sends to all, it leaves the answer to its parent.

A console that is gone (``| head -1``, a closed terminal) ends no command whose result is in files: what it would have
printed is dropped (``outlive_console``).
"""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

LISTENED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_ENDING = {signal.SIGTERM, signal.SIGHUP}  # end a forked child, and nothing where a command is over
_NO_CONSOLE = (errno.EPIPE, errno.EIO)  # of a pipe whose reader is gone, of a terminal that is closed
ECHO = 1.0
"""Seconds after the first signal in which another is the same one: a launcher hears what the whole job is told, and
passes it on."""


class Stopped(KeyboardInterrupt):
    """The run was asked to end, and is where it may. What is done is on the disk."""

    saved_in: Path | None = None  # the directory of the run; None: it was asked before there was one

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        self.exit_code = 128 + number  # a stopped run is not a finished one: no `&&`, no afterok, no Job goes on
        super().__init__(self.signal.name)


_listener: int | None = None  # the process that listens; its forked children have other numbers
_asked: int | None = None  # number of the first signal
_asked_at = 0.0
_held = False
_released = False  # inside a ``held`` block, where points are
_together = False  # several processes leave at their meetings
_over = False


def listen() -> None:
    """From here on the signals of ``LISTENED`` ask this process to stop. Only the main thread may call this."""
    global _asked, _listener, _over
    if _listener is None:
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_child)
        sys.unraisablehook = partial(_unraisable, sys.unraisablehook)
    _asked, _listener, _over = None, os.getpid(), False
    for number in LISTENED:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _hear)


def finish() -> None:
    """The command is over, whatever came of it: SIGTERM and SIGHUP have nothing to stop any more, and the exit code
    stands."""
    global _over
    _over = True


def asked() -> int | None:
    """The number of the signal that asked this process to stop; None: nobody did."""
    return _asked


def is_repeated() -> bool:
    """Whether a signal that comes now is a second one: it ends the process at once."""
    return _asked is not None and time.monotonic() - _asked_at > ECHO


def decide_together(together: bool) -> None:
    """Whether the processes of the run leave at a place that they agree on."""
    global _together
    _together = together


@contextmanager
def held() -> Iterator[None]:
    """Nothing in this block is cut off by the first signal, but at the points of ``released`` blocks in it. Its end is
    a point, where no other block holds."""
    global _held
    before, _held = _held, True
    try:
        yield
    finally:
        _held = before
    point()


@contextmanager
def released() -> Iterator[None]:
    """Inside ``held``: what is done here may be left at any ``point``. Its beginning is one."""
    global _released
    before, _released = _released, True
    try:
        point()
        yield
    finally:
        _released = before


def point() -> None:
    """Raises Stopped when this process was asked to stop and what it does may be left here."""
    if not _together:
        agreed(_asked)


def agreed(number: int | None) -> None:
    """``point`` for processes that have told each other: ``number`` is that of the signal one of them heard."""
    if number is not None and (_released or not _held):
        raise Stopped(number)


def _hear(number: int, _: FrameType | None) -> None:
    global _asked, _asked_at
    if is_repeated():
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    if _asked is not None:
        return
    _asked, _asked_at = number, time.monotonic()
    if _over and number in _ENDING:
        return
    if os.getpid() == _listener and not _held and not _together:
        raise Stopped(number)


def _unraisable(before: Callable[[Any], object], lost: Any) -> None:
    """Python drops what is raised while it cleans up an object, and prints a traceback. A Stopped is not lost by that:
    the signal is noted, and met at the next point."""
    if not isinstance(lost.exc_value, Stopped):
        before(lost)


_forking = threading.local()  # .mask: the signals that the thread had blocked before it forked


def _before_fork() -> None:
    # Python forgets the signals that a child gets inside of fork itself, and one on a busy machine is told to end
    # before it has begun to run: blocked, SIGTERM waits until the child is ready for it.
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _begin_child() -> None:
    for number in _ENDING:
        if signal.getsignal(number) is _hear:
            signal.signal(number, signal.SIG_DFL)
    _after_fork()


@contextmanager
def outlive_console() -> Iterator[None]:
    """Inside this block, standard output and error that nobody reads any more raise nothing: what is written to them is
    dropped."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Lasting, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


class _Lasting:
    """A text stream that outlives its reader."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._unless_gone(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._unless_gone(self._stream.flush)

    def _unless_gone(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            if error.errno not in _NO_CONSOLE:
                raise
            # What the stream still holds, and what others write to its descriptor, goes nowhere too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
