"""The state of this process while code of a user's runs in it: working directory, streams, signals, settings of torch.

``keep`` puts back what the code leaves changed and says so once, ends a child that the code forked and did not end, and
stops the run by name where a descriptor of the run was closed. Time limits are in ``time_limit.py``.

Random states are not kept: the run draws from generators of its own, each seeded for what it draws.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from curr_reft import console
from curr_reft.errors import TrainingError
from curr_reft.time_limit import end_forked_child

LINES = 100
"""Lines that one call may print. The rest is counted."""

WIDTH = 2000
"""Characters of a printed line that are shown."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)
_last: list[str] = []
_warned: set[tuple[str, str]] = set()
_watched: dict[int, str] = {}  # descriptors of the run -> what they are

log = logging.getLogger(__name__)


def watch(descriptor: int, what: str) -> None:
    """From here on, code of a user's that closes ``descriptor`` stops the run by name."""
    _watched[descriptor] = what


def unwatch(descriptor: int) -> None:
    _watched.pop(descriptor, None)


def last_called() -> str:
    """The code of a user's that ran last in this process; empty if none did."""
    return _last[-1] if _last else ""


@contextlib.contextmanager
def keep(what: str) -> Iterator[None]:
    """Run a user's code, named ``what`` in messages, and leave the process as it was.

    What it prints goes to standard error, ``LINES`` lines of a call at most: standard output is the command's. Raises
    TrainingError if the code closed a descriptor of the run.
    """
    process, before, descriptors = os.getpid(), _state(), _identities()
    had_torch = "torch" in sys.modules
    _last[:] = [what]
    streams = sys.stdin, sys.stdout, sys.stderr
    printed = _Printed(what, sys.stderr)
    sys.stdout, sys.stderr = printed.stream(sys.stdout), printed.stream(sys.stderr)
    replaced = sys.stdin, sys.stdout, sys.stderr
    try:
        yield
    finally:
        end_forked_child(process, what)
        is_replaced = (sys.stdin, sys.stdout, sys.stderr) != replaced
        sys.stdin, sys.stdout, sys.stderr = streams
        printed.finish()
        if is_replaced:
            _warn(what, "sys.stdin, sys.stdout or sys.stderr")
        _put_back(before, what)
        if not had_torch:
            _put_back(_fresh_torch(), what)
        _require_open(descriptors, what)


class _Printed:
    """What one call prints: the first lines are shown, the others counted."""

    def __init__(self, what: str, shown: Any) -> None:
        self._what, self._shown = what, shown
        self._lines = 0
        self._line = ""
        me = threading.get_ident()
        self.others = {each.ident for each in threading.enumerate()} - {me}  # threads of the run print as before

    def stream(self, own: Any) -> Any:
        """What stands for ``own``, standard output or error, while the call lasts."""
        return own if own is None else _Stream(self, own)

    def add(self, text: str) -> None:
        if self._lines >= LINES:
            self._lines += text.count("\n")
            return
        *whole, rest = text.split("\n")
        for part in whole:
            if self._lines < LINES:
                self._show(self._line + part)
            self._lines += 1
            self._line = ""
        self._line = (self._line + rest)[: WIDTH + 1]

    def finish(self) -> None:
        """Show the line that has no end yet, and how much was not shown."""
        if self._line and self._lines < LINES:
            self._show(self._line)
        if self._lines > LINES:
            self._show(f"{self._what} printed {self._lines - LINES:,} lines more, which are not shown")

    def _show(self, line: str) -> None:
        if self._shown is not None:
            console.relay(line if len(line) <= WIDTH else f"{line[:WIDTH]} ...", self._shown)


class _Stream:
    """Standard output or error as a user's code sees it."""

    def __init__(self, printed: _Printed, own: Any) -> None:
        self._printed, self._own = printed, own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def write(self, text: str) -> int:
        if threading.get_ident() in self._printed.others:
            return int(self._own.write(text))
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._printed.add(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def close(self) -> None:
        """Do nothing: the stream is the run's."""


def _state() -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """What is kept: a name -> (its value, the function that sets it)."""
    state: dict[str, tuple[Any, Callable[[Any], Any]]] = {
        "the working directory": (_directory(), _change_directory),
        "the recursion limit": (sys.getrecursionlimit(), sys.setrecursionlimit),
        "logging.disable": (logging.root.manager.disable, logging.disable),
    }
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler is not None:

                def put(before: Any, number: signal.Signals = number) -> None:
                    signal.signal(number, before)

                state[f"the handler of {number.name}"] = handler, put
    if (numpy := sys.modules.get("numpy")) is not None:
        state["numpy.seterr"] = numpy.geterr(), lambda before: numpy.seterr(**before)
    state.update(_torch_state())
    return state


def _torch_state() -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "set_default_dtype"):  # not imported, or not to its end
        return {}
    return {
        "torch's default dtype": (torch.get_default_dtype(), torch.set_default_dtype),
        "torch's grad mode": (torch.is_grad_enabled(), torch.set_grad_enabled),
        "torch's number of threads": (torch.get_num_threads(), torch.set_num_threads),
        "torch's deterministic algorithms": (
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
            lambda before: torch.use_deterministic_algorithms(before[0], warn_only=before[1]),
        ),
        "torch's precision of matmul": (torch.get_float32_matmul_precision(), torch.set_float32_matmul_precision),
        "torch's default device": (
            torch.get_default_device(),
            lambda before: torch.set_default_device(None if before == torch.device("cpu") else before),
        ),
    }


def _fresh_torch() -> dict[str, tuple[Any, Callable[[Any], Any]]]:
    """What torch starts with, for code that imports it first."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "set_default_dtype"):
        return {}
    return {
        "torch's default dtype": (torch.float32, torch.set_default_dtype),
        "torch's grad mode": (True, torch.set_grad_enabled),
    }


def _put_back(before: dict[str, tuple[Any, Callable[[Any], Any]]], what: str) -> None:
    now = _state()
    for name, (value, put) in before.items():
        if name in now and now[name][0] != value:
            put(value)
            _warn(what, name)


def _warn(what: str, name: str) -> None:
    if (what, name) not in _warned:
        _warned.add((what, name))
        log.warning("%s changed %s, which was put back; let it leave the process as it found it", what, name)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # removed
        return None


def _change_directory(before: str | None) -> None:
    if before is not None:
        with contextlib.suppress(OSError):
            os.chdir(before)


def _identities() -> dict[int, tuple[int, int] | None]:
    """Device and inode of the descriptors that are looked after: the standard ones and those of ``watch``."""
    return {descriptor: _identity(descriptor) for descriptor in (0, 1, 2, *_watched)}


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _require_open(before: dict[int, tuple[int, int] | None], what: str) -> None:
    lost = [each for each, identity in before.items() if identity is not None and _identity(each) != identity]
    if lost:
        names = {0: "standard input", 1: "standard output", 2: "standard error", **_watched}
        told = ", ".join(f"{names[each]} (descriptor {each})" for each in lost)
        raise TrainingError(
            f"{what} closed or replaced {told}, which the run needs; let it close only what it opened itself, and "
            "continue with --resume"
        )
