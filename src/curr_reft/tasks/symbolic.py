"""Verification of mathematical answers in killable worker processes.

sympy can hang on a short text, and a hung call inside C code ignores every alarm of its own process. So each pair goes
to a worker process through pipes; a worker that exceeds its limit is killed and replaced, and the pair is timed out.
Workers start when the first pair needs one and end with this process. They are plain ``python -m`` children rather than
``multiprocessing`` ones, because those import the caller's main module again, with torch in it.

What does not need computer algebra (letters, text, plain numbers) is decided by ``expression.compare`` before.
"""

import atexit
import json
import logging
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence

from curr_reft.tasks.expression import Equality, LatexPair, compare
from curr_reft.tasks.status import VerificationError

_log = logging.getLogger(__name__)

START_LIMIT = 120.0  # seconds for a worker to import sympy on a busy machine; not part of any pair's limit


class _Worker:
    """One child process. ``deadline`` is when its current pair, or its start, has taken too long."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the worker)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "curr_reft.tasks.symbolic_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            bufsize=0,
        )
        self.ready = False
        self.job: int | None = None  # position of the pair in work
        self.deadline = time.monotonic() + START_LIMIT
        self._received = b""

    def send(self, job: int, pair: LatexPair, timeout: float) -> None:
        assert self.process.stdin is not None
        self.job, self.deadline = job, time.monotonic() + timeout
        self.process.stdin.write((json.dumps([pair.truth, pair.answer, timeout]) + "\n").encode())

    def receive(self) -> str | None:
        """The next whole line, or None when more bytes are needed. Raises EOFError when the worker has ended."""
        assert self.process.stdout is not None
        chunk = os.read(self.process.stdout.fileno(), 65536)
        if not chunk:
            raise EOFError
        self._received += chunk
        line, newline, rest = self._received.partition(b"\n")
        if not newline:
            return None
        self._received = rest
        return str(json.loads(line))

    def last_words(self) -> str:
        """The end of what the worker wrote to its error output."""
        self._errors.seek(0)
        return self._errors.read()[-500:].decode(errors="replace").strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self._errors.close()


class WorkerPool:
    """Verification processes that live until ``close`` or the end of this process."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()

    @property
    def process_ids(self) -> tuple[int, ...]:
        return tuple(worker.process.pid for worker in self._workers)

    def verify_all(self, pairs: Sequence[LatexPair], timeout: float, workers: int) -> list[Equality]:
        """One outcome per pair, in order. ``timeout`` is seconds per pair, ``workers`` the most processes used.

        Raises VerificationError when no worker can start: then it is the installation, not an answer.
        """
        if self._owner != os.getpid():  # after a fork the pipes belong to the parent: start afresh
            self._workers, self._lock, self._owner = [], threading.Lock(), os.getpid()
        with self._lock:
            try:
                return self._run(pairs, timeout, workers)
            except BaseException:  # Ctrl-C above all: a worker still at work would answer the next call's question
                for worker in [worker for worker in self._workers if worker.job is not None]:
                    self._drop(worker)
                raise

    def _run(self, pairs: Sequence[LatexPair], timeout: float, workers: int) -> list[Equality]:
        outcomes: dict[int, Equality] = {}
        waiting = deque(range(len(pairs)))
        failed_starts: list[str] = []
        while len(outcomes) < len(pairs):
            wanted = min(max(1, workers), len(pairs) - len(outcomes))
            while len(self._workers) < wanted:
                self._workers.append(_Worker())
            for worker in self._workers:
                if worker.ready and worker.job is None and waiting:
                    job = waiting.popleft()
                    try:
                        worker.send(job, pairs[job], timeout)
                    except BrokenPipeError:  # it died while idle; its end is noticed below and the pair goes back
                        waiting.appendleft(job)
                        worker.job = None
            for worker in self._wait():
                try:
                    line = worker.receive()
                except EOFError:
                    if worker.job is not None:
                        outcomes[worker.job] = Equality.FAILED
                        _log.warning("a verification worker ended on %r: %s", pairs[worker.job], worker.last_words())
                    elif not worker.ready:
                        failed_starts.append(worker.last_words())
                    self._drop(worker)
                    continue
                if line is None:
                    continue
                if not worker.ready:
                    worker.ready = line == "ready"
                elif worker.job is not None:
                    outcome, _, reason = line.partition(": ")
                    if reason:
                        _log.warning("verification of %r failed: %s", pairs[worker.job], reason)
                    outcomes[worker.job] = Equality(outcome)
                    worker.job = None
            now = time.monotonic()
            for worker in [w for w in self._workers if (w.job is not None or not w.ready) and now >= w.deadline]:
                self._drop(worker)
                if worker.job is not None:
                    outcomes[worker.job] = Equality.TIMED_OUT
                else:
                    failed_starts.append(f"not ready after {START_LIMIT:g} s")
            if len(failed_starts) > workers:
                raise VerificationError(
                    f"no verification worker starts with {sys.executable}: {failed_starts[-1]}. Check that math-verify "
                    "is installed there"
                )
        return [outcomes[position] for position in range(len(pairs))]

    def _wait(self) -> list[_Worker]:
        """The workers with something to read, after at most the time to the next deadline."""
        busy = [worker.deadline for worker in self._workers if worker.job is not None or not worker.ready]
        pause = max(0.0, min(busy) - time.monotonic()) if busy else 0.0
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                assert worker.process.stdout is not None
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            return [key.data for key, _ in selector.select(pause)]

    def _drop(self, worker: _Worker) -> None:
        worker.kill()
        self._workers.remove(worker)

    def close(self) -> None:
        """Ends all workers; the next verification starts new ones."""
        if self._owner != os.getpid():
            return
        with self._lock:
            for worker in list(self._workers):
                self._drop(worker)


POOL = WorkerPool()
atexit.register(POOL.close)


def verify_all(pairs: Sequence[tuple[str, str]], timeout: float = 5.0, workers: int = 2) -> list[Equality]:
    """Whether each answer equals its truth, for pairs (truth, answer) of text; order is kept.

    The fast path of ``verify``: pairs that need computer algebra are shared among the workers.
    """
    needed: list[LatexPair] = []
    decided: list[Equality | list[int]] = []
    known: dict[LatexPair, int] = {}
    for truth, answer in pairs:
        result = compare(truth, answer)
        if isinstance(result, bool):
            decided.append(Equality.EQUAL if result else Equality.DIFFERENT)
            continue
        for pair in result:
            if pair not in known:
                known[pair] = len(needed)
                needed.append(pair)
        decided.append([known[pair] for pair in result])
    outcomes = POOL.verify_all(needed, timeout, workers) if needed else []
    return [
        result if isinstance(result, Equality) else _all_equal([outcomes[position] for position in result])
        for result in decided
    ]


def verify(truth: str, answer: str, timeout: float = 5.0) -> Equality:
    """Whether one answer equals the truth."""
    return verify_all([(truth, answer)], timeout, 1)[0]


def _all_equal(outcomes: list[Equality]) -> Equality:
    for outcome in (Equality.DIFFERENT, Equality.FAILED, Equality.TIMED_OUT):
        if outcome in outcomes:
            return outcome
    return Equality.EQUAL
