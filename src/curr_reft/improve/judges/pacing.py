"""How often a server is asked: limits by the minute, and the rest it asks for."""

import threading
import time
from collections.abc import Callable


class Pacer:
    """Lets ``per_minute`` units a minute pass, evenly: no minute ever holds more, and none begins with a burst.

    The generic cell rate algorithm with a burst of one: a request of n units takes n / rate of the schedule.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = 0.0 if per_minute is None else 60.0 / per_minute  # of one unit
        self._clock = clock
        self._next = 0.0  # when the schedule is free
        self._lock = threading.Lock()

    def reserve(self, units: float) -> float:
        """Seconds to wait before ``units`` may pass; the place in the schedule is taken."""
        with self._lock:
            now = self._clock()
            begin = max(now, self._next)
            self._next = begin + units * self._seconds
            return begin - now


class Pause:
    """A moment before which nobody asks, because the server said so."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0
        self._lock = threading.Lock()

    def extend(self, seconds: float) -> None:
        """Nobody asks for ``seconds`` from now; a longer pause stays."""
        with self._lock:
            self._until = max(self._until, self._clock() + seconds)

    def remaining(self) -> float:
        """Seconds that are left of it."""
        with self._lock:
            return max(0.0, self._until - self._clock())
