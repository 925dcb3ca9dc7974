"""Processes that open and process images, in place of this one.

They are plain ``python -m`` children rather than children of ``multiprocessing``, because those import the caller's
main module again; and they are not forked, because a fork of a process with threads and a GPU is not safe. One starts
when it is first needed (some seconds, and about 350 MB: it holds torch and transformers) and ends with this process.
Pixels come back through its socket: the thread that waits for them reads them into place while the model computes.

A worker that dies is named in a warning and replaced, and its images are tried once more. If that kills the next one
too, they are refused by row: a decoder that crashes then ends nothing else.
"""

import logging
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from functools import cache
from typing import Any

from curr_reft.data.item import ImageSource
from curr_reft.errors import DataError, ProcessError
from curr_reft.policy.image_maker import ImageMaker
from curr_reft.policy.image_wire import ClosedError, prepared, receive, send

START_LIMIT = 120.0  # seconds for a worker to start on a busy machine
ANSWER_LIMIT = 300.0  # seconds for the images of one prompt; decoding 64 million pixels takes about one

_log = logging.getLogger(__name__)


class ImagePool:
    """Worker processes, as many as threads ask at the same time."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: set[_Worker] = set()
        self._warned = False
        self._end = weakref.finalize(self, _end, self._all)  # at the end of the interpreter too

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Of the workers."""
        return tuple(worker.process_id for worker in list(self._all))

    def open(self, maker: ImageMaker, sources: Sequence[ImageSource]) -> dict[str, Any]:
        """``maker.open(sources)``, in a worker. Raises DataError, ProcessError where none can start."""
        try:
            asked = prepared((maker, sources))
        except (pickle.PicklingError, AttributeError, TypeError):  # images drawn by a function that has no name
            return maker.open(sources)
        for attempt in (1, 2):
            worker = self._worker() if attempt == 1 else self._new()  # what killed one may have killed all
            try:
                answer = worker.ask(asked)
            except ClosedError:
                lost = self._lost(worker)
                if attempt == 2:
                    source = getattr(sources[0], "source", "") or sources[0].key
                    raise DataError(
                        source,
                        f"a process that decodes its images {lost}, and so did another before it; take the row out, or "
                        "give the machine more memory if there was none left",
                    ) from None
                _log.warning("a process that decodes images %s; its images are tried again in a new one", lost)
                continue
            except TimeoutError:
                worker.kill()
                self._lost(worker)
                source = getattr(sources[0], "source", "") or sources[0].key
                raise DataError(
                    source, f"its images were not decoded in {ANSWER_LIMIT:.0f} s; are they on a disk that hangs?"
                ) from None
            except BaseException:  # it may still answer, and the next one must not read that
                worker.kill()
                self._lost(worker)
                raise
            self._idle.put(worker)
            match answer:
                case "made", made, tensors:
                    if tensors:
                        import torch  # here: who only starts workers need not wait for it
                    return {name: torch.from_numpy(value) if name in tensors else value for name, value in made.items()}
                case "refused", source, reason, problems:
                    raise DataError(source, reason, problems)
                case "failed", why:
                    # Made here it raises what it raises, or shows that only the worker cannot do it.
                    made = maker.open(sources)
                    if not self._warned:
                        self._warned = True
                        _log.warning("images are processed in this process, as a worker process cannot:\n%s", why)
                    return made
        raise AssertionError("two attempts end above")

    def close(self) -> None:
        """Ends all workers. No other thread may be asking."""
        _end(self._all)
        self._idle = queue.SimpleQueue()

    def _worker(self) -> "_Worker":
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._new()

    def _new(self) -> "_Worker":
        worker = _Worker()
        self._all.add(worker)
        return worker

    def _lost(self, worker: "_Worker") -> str:
        """Ends a worker that is of no more use; how it ended, in words."""
        self._all.discard(worker)
        return worker.end()


class _Worker:
    """One process. Raises ProcessError when it does not start."""

    def __init__(self) -> None:
        path = os.pathsep.join(each for each in sys.path if each)
        own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self._channel, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "curr_reft.policy.image_worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                env={**os.environ, **own},
                pass_fds=(theirs.fileno(),),
            )
        self.process_id = self._process.pid
        self._channel.settimeout(START_LIMIT)
        try:
            receive(self._channel)
        except (ClosedError, TimeoutError) as error:
            how = self.end()
            raise ProcessError(
                f"a process that decodes images {how} before it was ready. Set model.image_workers to 0 to process "
                "images in threads"
            ) from error
        self._channel.settimeout(ANSWER_LIMIT)

    def ask(self, parts: list[memoryview]) -> Any:
        """Sends ``parts`` and waits for the answer. Raises ClosedError, TimeoutError."""
        send(self._channel, parts)
        return receive(self._channel)

    def kill(self) -> None:
        """Takes effect at once; ``end`` waits for it."""
        self._process.kill()

    def end(self) -> str:
        """Closes the channel, waits for the process, and kills one that does not go. How it ended, in words."""
        self._channel.close()
        try:
            code = self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        with self._errors:
            self._errors.seek(0)
            words = self._errors.read()[-500:].decode(errors="replace").strip()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"(pid {self.process_id}) {how}" + (f" and said: {words}" if words else "")


def _end(workers: set[_Worker]) -> None:
    ended = list(workers)
    workers.clear()
    for worker in ended:
        worker.kill()  # all of them first: it has nothing to save, and freeing a large memory takes time
    for worker in ended:
        worker.end()


@cache
def image_pool() -> ImagePool:
    """The pool of this process: its workers serve one model after the other."""
    return ImagePool()
