"""One process at a time in a run directory: an flock, and the holder's host and process in the file for the message.

The system drops the lock with the process, however that ends; the file stays, and a name in it alone means nothing.

An flock is on the file, not on its name: where somebody removes the file while a run lives, another process may make
and lock a new one. So the holder looks before it writes whether the name still leads to its own file with its own words
(``require_held``), and who makes the file anew asks whether the process that the run itself names still lives
(``living_owner``). The words are looked at too for the sake of network file systems whose locks do not reach other
hosts: there a second process overwrites them, and the first then stops.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curr_reft import process_state
from curr_reft.errors import LostLockError, UsageError
from curr_reft.files import reporting_full_disk


class Lock:
    """An exclusive flock on a file that names its holder. The file stays; only the lock counts."""

    def __init__(self, path: Path, descriptor: int, owner: dict[str, Any]) -> None:
        self.path = path
        self.owner = owner  # what the file says: host, process, when that began, the folder, words of this lock alone
        self._descriptor = descriptor
        _held.add(descriptor)
        process_state.watch(descriptor, f"the lock {path}")

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
        owner = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "began": began_ticks(os.getpid()),
            "folder": path.parent.stat().st_ino,
            "lock": secrets.token_hex(8),
        }
        name = json.dumps(owner).encode()
        try:
            with reporting_full_disk(path, len(name)):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, name, 0)
            lock = cls(path, descriptor, owner)
            lock.require_held()  # the file may have been removed between opening and locking it
            return lock
        except BaseException:
            _held.discard(descriptor)
            process_state.unwatch(descriptor)
            os.close(descriptor)
            raise

    def require_held(self) -> None:
        """To be asked before a write. Raises LostLockError where the file was removed, replaced or written over."""
        lost = self._lost()
        if lost is not None:
            raise LostLockError(
                f"{self.path} {lost} while this run worked, so that another process may write to {self.path.parent} "
                "too; this one stops and writes nothing more. Look for the other one (curr-reft status "
                f"{self.path.parent}), then go on with --resume; the file is to be left alone while a run lives"
            )

    def is_held(self) -> bool:
        """Whether no other process may have taken the lock, as far as can be seen."""
        return self._lost() is None

    def release(self) -> None:
        if self._descriptor in _held:
            if self._lost() is None:  # else the words are those of another process
                os.ftruncate(self._descriptor, 0)
            _held.discard(self._descriptor)
            process_state.unwatch(self._descriptor)
            with contextlib.suppress(OSError):  # other code of this process closed it
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # also for a child that has not dropped its copy yet
                os.close(self._descriptor)

    def _lost(self) -> str | None:
        """What became of the file, in words; None while it is ours. Opened anew: a network file system then asks its
        server, where the open descriptor may show what it showed before."""
        if self._descriptor not in _held:  # given back, or this is a child that was forked
            return "is not held by this process"
        try:
            ours = os.fstat(self._descriptor)
        except OSError:
            return "was closed by other code of this process"
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):  # ESTALE: a network file system says it so
                return "was removed"
            raise
        try:
            there = os.fstat(descriptor)
            if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
                return "was replaced by another file"
            if os.read(descriptor, 4096) != json.dumps(self.owner).encode():
                return "was written over by another process"
        finally:
            os.close(descriptor)
        return None


def living_owner(owner: Any, folder: Path) -> str | None:
    """The process that the run in ``folder`` names as its ``owner`` (``Lock.owner``), where it lives on this host; None
    where it does not, is this very process, or owns the run that this one is a copy of, and where that cannot be told
    (another host, a system that does not say when a process began, and so whether its number was given away again)."""
    if not isinstance(owner, Mapping) or owner.get("host") != socket.gethostname() or is_copied(owner, folder):
        return None
    process, began = owner.get("process"), owner.get("began")
    if not isinstance(process, int) or process == os.getpid() or began is None or began_ticks(process) != began:
        return None
    return f"process {process} on {owner['host']}"


def is_copied(owner: Mapping[str, Any], folder: Path) -> bool:
    """Whether the name came into ``folder`` with a copy of another one. A folder that is moved stays the same."""
    return "folder" in owner and owner["folder"] != folder.stat().st_ino  # earlier versions noted none


def began_ticks(process: int) -> int | None:
    """When ``process`` began, in ticks since the machine did; None of one that is not there or has ended, and where the
    system does not say (not Linux)."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else int(after_name[19])


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
