"""One process at a time in a run directory: an flock, and the holder's host and process in the file for the message.

The system drops the lock with the process, however that ends; the file stays, and a name in it alone means nothing.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path

from curr_reft.errors import UsageError
from curr_reft.files import reporting_full_disk


class Lock:
    """An exclusive flock on a file that names its holder. The file stays; only the lock counts."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        _held.add(descriptor)

    @classmethod
    def take(cls, path: Path) -> "Lock":
        """Raises UsageError where another process has it, DiskFullError, OSError where the file cannot be opened."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UsageError(
                    f"output {path.parent} is held by another run ({holder}); "
                    "wait for it, stop it, or choose another --output"
                ) from error
            raise UsageError(
                f"output {path.parent}: its file system offers no locks ({error.strerror}); "
                "choose an --output on another one"
            ) from error
        name = json.dumps({"host": socket.gethostname(), "process": os.getpid()}).encode()
        try:
            with reporting_full_disk(path, len(name)):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, name, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            os.ftruncate(self._descriptor, 0)
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # also for a child that has not dropped its copy yet
            os.close(self._descriptor)


def _holder(descriptor: int) -> str:
    for _ in range(10):  # the holder may be between taking the lock and writing its name
        with contextlib.suppress(ValueError, KeyError, TypeError):
            holder = json.loads(os.pread(descriptor, 4096, 0))
            return f"process {holder['process']} on {holder['host']}"
        time.sleep(0.05)
    return "its process is not named in the lock file"


_held: set[int] = set()


def _drop_in_child() -> None:
    # A forked worker that outlives a killed run would keep the lock: children close their copy of the descriptor.
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_drop_in_child)
