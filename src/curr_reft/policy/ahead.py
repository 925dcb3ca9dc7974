"""Images opened and processed ahead of time while the model computes, a bounded amount of them.

The work is begun by threads. Decoding, resizing and array arithmetic leave Python's lock to others, a thread starts at
once and holds no second copy of the libraries, hands over its arrays without copying, raises what the call itself would
have raised, and ends with the process however that ends. Where that is not enough, what a thread begins is carried out
in a process of its own (``image_pool.py``).
"""

import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")

AHEAD_BYTES = 256 << 20
"""Nothing more is begun while this many bytes are made and not yet asked for."""


class Ahead(Generic[T]):
    """Results that somebody will ask for by key. ``threads`` 0: nothing is done before it is asked for.

    At most ``limit`` bytes (by ``size``) wait to be asked for, and beyond that what ``threads`` threads are making.
    """

    def __init__(self, threads: int, size: Callable[[T], int], limit: int = AHEAD_BYTES) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="images") if threads else None
        self._threads, self._size, self._limit = threads, size, limit
        self._lock = threading.RLock()  # cancelling a future runs its callbacks at once
        self._waiting: dict[Hashable, Callable[[], T]] = {}
        self._begun: dict[Hashable, Future[T]] = {}
        self._running = 0
        self._held = 0  # bytes that are made and not asked for

    def begin(self, wanted: Mapping[Hashable, Callable[[], T]]) -> None:
        """Starts on ``wanted``, in order, and forgets what was begun before and not asked for."""
        if self._pool is None:
            return
        with self._lock:
            for key in self._begun.keys() - wanted.keys():
                self._release(self._begun.pop(key))
            self._waiting = {key: make for key, make in wanted.items() if key not in self._begun}
            self._fill()

    def take(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was begun for ``key``, or ``make()``. Raises what making it raised."""
        with self._lock:
            self._waiting.pop(key, None)
            begun = self._begun.get(key)
        if begun is None:
            return make()
        try:
            return begun.result()
        finally:
            with self._lock:
                if self._begun.pop(key, None) is not None:
                    self._release(begun)
                self._fill()

    def _fill(self) -> None:
        """Gives idle threads what is waiting, as long as there is room for it."""
        assert self._pool is not None
        while self._waiting and self._running < self._threads and self._held < self._limit:
            key = next(iter(self._waiting))
            try:
                future = self._pool.submit(self._waiting.pop(key))
            except RuntimeError:  # the interpreter is ending: nobody will ask
                self._waiting.clear()
                return
            self._running += 1
            self._begun[key] = future
            future.add_done_callback(self._done)

    def _done(self, future: Future[T]) -> None:
        with self._lock:
            self._running -= 1
            if any(each is future for each in self._begun.values()):
                self._held += self._bytes(future)
            self._fill()

    def _release(self, future: Future[T]) -> None:
        """No longer counts a future that was taken out of ``_begun``."""
        if future.done():
            self._held -= self._bytes(future)
        else:
            future.cancel()

    def _bytes(self, future: Future[T]) -> int:
        failed = future.cancelled() or future.exception() is not None
        return 0 if failed else self._size(future.result())
