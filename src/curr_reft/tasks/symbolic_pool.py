"""The processes that verify expressions: one server that has computer algebra loaded, and workers forked from it.

A worker that exceeds its limit is killed and replaced, and one that is stuck before that steps aside, so that hostile
answers delay the others by little. Loading sympy takes a second and a fork some milliseconds, so they cost their time
limits, side by side, and no more. The server is a plain ``python -m`` child rather than
one of ``multiprocessing``, because those import the caller's main module again, with torch in it. It starts when the
first pair needs it and ends, with its workers, when this process does. POSIX only, as fork is.
"""

import json
import logging
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from curr_reft.tasks.expression import Equality, LatexPair
from curr_reft.tasks.status import VerificationError

_log = logging.getLogger(__name__)

START_LIMIT = 120.0  # seconds for the server to import sympy on a busy machine; not part of any pair's limit
STUCK = 0.25  # of the limit, after which a worker steps aside for the pairs that wait
UNTRIED = 0.05  # of the limit: a worker with less time on a processor has not been tried, the machine was busy
EXTENSIONS = 4  # times that the limit of a pair is granted again for that reason
WORKER_LIFE = 1000  # pairs after which a worker is replaced: the caches of the parser and of sympy grow


def _import_path() -> list[str]:
    """Return where the server looks for modules: this process's path without the working directory and the folder of
    the script, because a ``math.py`` or ``sympy.py`` there would replace the real one."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    left_out = {os.path.realpath(os.curdir)} | ({os.path.realpath(os.path.dirname(main))} if main else set())
    package = str(Path(__file__).resolve().parents[2])
    kept = [path for path in sys.path if path and os.path.realpath(path) not in left_out]
    return kept if package in map(os.path.realpath, kept) else [*kept, package]


class _Server:
    """The process that forks workers. Every request is answered before the next one is made."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())}
        self._control, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the server)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "curr_reft.tasks.symbolic_worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            env=environment,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        self._control.settimeout(START_LIMIT)
        try:
            self._answer()
        except OSError as error:
            self.close()
            raise VerificationError(
                f"no verification worker starts with {sys.executable}: {self._words or error}. "
                "Check that math-verify is installed there"
            ) from error

    def fork(self) -> "_Worker":
        """A new worker. Raises OSError when the server is gone."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"fork"], [theirs.fileno()])
            return _Worker(self, int(self._answer()), ours)

    def reap(self, process_id: int) -> None:
        """Waits for a worker that was killed or has ended; until then its process id is not used again."""
        self._control.sendall(f"reap {process_id}".encode())
        self._answer()

    def last_words(self) -> str:
        """The end of what the server and its workers wrote to their error output."""
        self._errors.seek(0)
        return self._errors.read()[-500:].decode(errors="replace").strip()

    def close(self) -> None:
        """Ends the server and all its workers."""
        self._control.close()  # it leaves when nobody can ask any more
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._words = self.last_words()
        self._errors.close()

    def forget(self) -> None:
        """Closes this process's ends only: after a fork they belong to the parent."""
        self._control.close()
        self._errors.close()

    def _answer(self) -> str:
        answer = self._control.recv(64)
        if not answer:
            raise ConnectionError("the verification server has ended")
        return answer.decode()


class _Worker:
    """One forked process. ``deadline`` is when its current pair has taken too long, ``patience`` when it is stuck."""

    def __init__(self, server: _Server, process_id: int, channel: socket.socket) -> None:
        self.server, self.process_id, self.channel = server, process_id, channel
        self.job: int | None = None  # position of the pair in work
        self.deadline = self.patience = 0.0
        self.stuck = False
        self.extensions = 0
        self._spent: float | None = None  # processor seconds before its pair
        self.served = 0
        self._received = b""

    def send(self, job: int, pair: LatexPair, timeout: float) -> None:
        self.job, now = job, time.monotonic()
        self.deadline, self.patience = now + timeout, now + STUCK * timeout
        self.extensions, self._spent = 0, _processor_seconds(self.process_id)
        self.served += 1
        self.channel.sendall((json.dumps([pair.truth, pair.answer, timeout]) + "\n").encode())

    def receive(self) -> str | None:
        """The next whole line, or None when more bytes are needed. Raises ConnectionError when the worker has ended."""
        chunk = self.channel.recv(65536)
        if not chunk:
            raise ConnectionResetError("the worker has ended")
        self._received += chunk
        line, newline, rest = self._received.partition(b"\n")
        if not newline:
            return None
        self._received = rest
        return str(json.loads(line))

    def step_aside(self) -> None:
        """Lets another worker take its place, and the others the processors. Its limit stays what it was."""
        self.stuck = True
        os.setpriority(os.PRIO_PROCESS, self.process_id, 5)

    def untried(self, timeout: float) -> bool:
        """Whether its pair had next to no time on a processor until now, so that the limit says nothing about it."""
        now = _processor_seconds(self.process_id)
        return now is not None and self._spent is not None and now - self._spent < UNTRIED * timeout

    def extend(self, timeout: float) -> None:
        """Grants the limit again."""
        self.extensions += 1
        self.deadline = time.monotonic() + timeout

    def kill(self) -> None:
        """Takes effect at once; ``end`` waits for it."""
        os.kill(self.process_id, signal.SIGKILL)

    def end(self) -> None:
        self.channel.close()
        try:
            self.kill()
            self.server.reap(self.process_id)
        except OSError:  # the server was killed from outside: its orphans end with their channel, or by their alarm
            _log.warning("the verification server is gone; worker %d ends by itself", self.process_id)


def _processor_seconds(process_id: int) -> float | None:
    """What a process has had of the processors; None where the system has no ``/proc`` to read it from."""
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Powers of powers, large numbers, roots in roots, and what sums, integrates or counts.
_LONG = re.compile(r"\^\{?[^{}]*\^|\d{4}|\^\{?\d{2}|sqrt.*sqrt.*sqrt|\\(?:int|sum|prod|lim|d?binom)(?![a-z])|!")


def _looks_long(pair: LatexPair) -> int:
    """A guess at the cost of a pair, for the order of work only. A wrong guess costs time and changes no outcome."""
    return 1000 * bool(_LONG.search(pair.answer)) + len(pair.answer)


class WorkerPool:
    """Verification processes that live until ``close`` or the end of this process."""

    def __init__(self) -> None:
        self._server: _Server | None = None
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the workers; the server is ``server_id``."""
        return tuple(worker.process_id for worker in self._workers)

    @property
    def server_id(self) -> int | None:
        return self._server.process.pid if self._server else None

    def start(self) -> None:
        """Starts the server now, so that the first batch does not wait for it. Raises VerificationError."""
        self._after_fork()
        with self._lock:
            self._started()

    def verify_all(self, pairs: Sequence[LatexPair], timeout: float, workers: int) -> list[Equality]:
        """One outcome per pair, in order. ``timeout`` is seconds per pair, ``workers`` the most that are at work; as
        many again may be stuck, at a lower priority.

        Raises VerificationError when no worker can start: then it is the installation, not an answer.
        """
        self._after_fork()
        with self._lock:
            try:
                return self._run(pairs, timeout, workers)
            except BaseException:  # Ctrl-C above all: a worker still at work would answer the next call's question
                for worker in [worker for worker in self._workers if worker.job is not None]:
                    self._drop(worker)
                raise

    def _run(self, pairs: Sequence[LatexPair], timeout: float, workers: int) -> list[Equality]:
        """What looks long is started first (the longest-processing-time rule): hung pairs then run side by side and the
        short ones fill the time left. In the order given, the last hung pair could start when all else is done."""
        outcomes: dict[int, Equality] = {}
        waiting = deque(sorted(range(len(pairs)), key=lambda position: -_looks_long(pairs[position])))
        while len(outcomes) < len(pairs):
            stuck = sum(worker.stuck for worker in self._workers)
            wanted = min(max(1, workers), len(pairs) - len(outcomes) - stuck) + stuck
            while len(self._workers) < min(wanted, 2 * max(1, workers)):
                self._workers.append(self._fork())
            for worker in [worker for worker in self._workers if worker.job is None]:
                if not waiting:
                    break
                job = waiting.popleft()
                try:
                    worker.send(job, pairs[job], timeout)
                except ConnectionError:  # it died while idle: nobody's fault, the pair goes to another
                    waiting.appendleft(job)
                    self._drop(worker)
            for worker in self._wait():
                assert worker.job is not None
                try:
                    line = worker.receive()
                except ConnectionError:
                    outcomes[worker.job] = Equality.FAILED
                    _log.warning("a verification worker ended on %r: %s", pairs[worker.job], worker.server.last_words())
                    self._drop(worker)
                    continue
                if line is None:
                    continue
                outcome, _, reason = line.partition(": ")
                if reason:
                    _log.warning("verification of %r failed: %s", pairs[worker.job], reason)
                outcomes[worker.job] = Equality(outcome)
                worker.job = None
                if worker.served >= WORKER_LIFE or worker.stuck:
                    self._drop(worker)
            now = time.monotonic()
            for worker in [worker for worker in self._workers if worker.job is not None]:
                if now >= worker.deadline and worker.extensions < EXTENSIONS and worker.untried(timeout):
                    worker.extend(timeout)
                elif not worker.stuck and now >= worker.patience and not worker.untried(timeout):
                    worker.step_aside()
            expired = [worker for worker in self._workers if worker.job is not None and now >= worker.deadline]
            for worker in expired:
                worker.kill()  # all of them first: freeing a large memory takes time
            for worker in expired:
                assert worker.job is not None
                outcomes[worker.job] = Equality.TIMED_OUT
                self._drop(worker)
        return [outcomes[position] for position in range(len(pairs))]

    def _wait(self) -> list[_Worker]:
        """The workers at work with something to read, after at most the time to the next patience or deadline."""
        busy = [worker for worker in self._workers if worker.job is not None]
        now = time.monotonic()
        # A worker that was not tried by the end of its patience is looked at again when its limit is over.
        events = [worker.deadline if worker.stuck or now >= worker.patience else worker.patience for worker in busy]
        pause = max(0.0, min(events) - now) if events else 0.0
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.channel, selectors.EVENT_READ, worker)
            return [key.data for key, _ in selector.select(pause)]

    def _started(self) -> _Server:
        if self._server is None:
            self._server = _Server()
        return self._server

    def _fork(self) -> _Worker:
        try:
            return self._started().fork()
        except OSError:  # the server was killed from outside, by a memory watchdog perhaps: once more with a new one
            self._close()
            return self._started().fork()

    def _drop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.end()

    def _after_fork(self) -> None:
        """In a forked child the processes are the parent's: start afresh."""
        if self._owner == os.getpid():
            return
        for worker in self._workers:
            worker.channel.close()
        if self._server is not None:
            self._server.forget()
        self._server, self._workers, self._lock, self._owner = None, [], threading.Lock(), os.getpid()

    def _close(self) -> None:
        for worker in list(self._workers):
            self._drop(worker)
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Ends all processes; the next verification starts new ones."""
        if self._owner != os.getpid():
            return
        with self._lock:
            self._close()
