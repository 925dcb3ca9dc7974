"""Images opened and processed ahead of time, by threads, while the model computes.

Threads and not processes: decoding, resizing and array arithmetic leave Python's lock to others, a thread starts at
once and holds no second copy of the libraries, hands over its arrays without copying, raises what the call itself would
have raised, and ends with the process however that ends.
"""

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Results that somebody will ask for by key. ``threads`` 0: nothing is done before it is asked for."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="images") if threads else None
        self._begun: dict[Hashable, Future[T]] = {}

    def begin(self, wanted: Mapping[Hashable, Callable[[], T]]) -> None:
        """Starts on ``wanted``, and forgets what was begun before and not asked for."""
        if self._pool is None:
            return
        for key in self._begun.keys() - wanted.keys():
            self._begun.pop(key).cancel()
        for key, make in wanted.items():
            if key not in self._begun:
                self._begun[key] = self._pool.submit(make)

    def take(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was begun for ``key``, or ``make()``. Raises what making it raised."""
        begun = self._begun.pop(key, None)
        return make() if begun is None else begun.result()
