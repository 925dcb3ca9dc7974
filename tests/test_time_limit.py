"""A limit that holds whatever the function does with alarms of its own, and leaves theirs to others."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from curr_reft import time_limit
from curr_reft.time_limit import TimeLimitReached, limited

LONG = 60.0  # seconds that nobody waits for
MOST = 2.0  # seconds for a limit of 0.2 on a busy machine


@pytest.fixture(autouse=True)
def _alarms_of_the_test_runner() -> Iterator[None]:
    timer, handler = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


def ring(_: int, __: object) -> None:
    raise TimeoutError


def as_math_verify_does(work: Callable[[], object]) -> None:
    """With an alarm of its own, which is cleared afterwards; and with it the alarm of anybody else."""
    handler = signal.signal(signal.SIGALRM, ring)
    signal.alarm(5)
    try:
        work()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)


def waits() -> None:
    time.sleep(LONG)


def computes() -> None:
    while True:
        pass


def searches() -> None:
    re.match(r"(a|aa)+$", "a" * 40 + "b")


@pytest.mark.parametrize("work", [waits, computes, searches], ids=lambda work: work.__name__)
def test_a_function_that_uses_alarms_itself_is_cut_off(work: Callable[[], None]) -> None:
    def function() -> None:
        as_math_verify_does(lambda: None)
        work()

    started = time.monotonic()
    with pytest.raises(TimeLimitReached), limited(0.2, "it"):
        function()
    assert time.monotonic() - started < MOST
    with pytest.raises(TimeLimitReached), limited(0.2, "it"):
        as_math_verify_does(work)
    assert not time_limit._rung
    assert not time_limit._watched


def test_what_is_in_time_is_not_disturbed() -> None:
    with limited(0.3, "it"):
        as_math_verify_does(lambda: time.sleep(0.05))
    time.sleep(0.5)
    with limited(LONG, "it"):
        ended = time.process_time() + 3 * time_limit.WORK
        while time.process_time() < ended:
            pass


def test_an_alarm_of_before_goes_on() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    for work in (waits, lambda: as_math_verify_does(waits)):
        heard.clear()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeLimitReached), limited(0.05, "it"):
            work()
        assert not heard
        time.sleep(0.4)
        assert heard == [signal.SIGALRM]


def test_an_alarm_of_before_that_rings_in_the_block_rings_once() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with limited(LONG, "it"):
        time.sleep(0.15)
    time.sleep(0.1)
    assert heard == [signal.SIGALRM]


def test_an_alarm_that_is_left_behind_is_taken_back_and_told(caplog: pytest.LogCaptureFixture) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    heard: list[int] = []
    handler = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with limited(1, "reward mine (mine.py:forgets)"):
        signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
    time.sleep(0.2)
    assert not heard
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    signal.signal(signal.SIGALRM, handler)
    assert "reward mine (mine.py:forgets) left an alarm behind" in caplog.text


def test_who_takes_the_signal_itself_is_told_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    with limited(LONG, "reward mine (mine.py:takes)"):
        signal.signal(time_limit.SIGNAL, signal.SIG_IGN)
    assert "reward mine (mine.py:takes) took SIGVTALRM for itself" in caplog.text
    assert "Let it use SIGALRM" in caplog.text
    with pytest.raises(TimeLimitReached), limited(0.05, "it"):
        waits()


def test_blocks_in_blocks_keep_their_own_limits() -> None:
    def function() -> None:
        with pytest.raises(TimeLimitReached), limited(0.05, "inner"):
            waits()
        with limited(LONG, "inner"):
            waits()

    with pytest.raises(TimeLimitReached), limited(0.2, "outer"):
        function()


@pytest.mark.parametrize("place", ["_begin_to_ring", "_put_back"])
def test_a_block_that_is_cut_off_on_its_way_in_or_out_leaves_nothing(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time of the block around it: no watchdog that ends the process later, no signal, no thread."""
    own, handler = getattr(time_limit, place), signal.getsignal(time_limit.SIGNAL)

    def slowly(limit: Any, *more: Any) -> None:
        if limit.what == "inner":
            time.sleep(0.3)
        own(limit, *more)

    monkeypatch.setattr(time_limit, place, slowly)
    with pytest.raises(TimeLimitReached), limited(0.1, "outer"), limited(LONG, "inner"):
        pass
    assert not time_limit._rung
    assert not time_limit._watched
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(time_limit.SIGNAL) in (handler, time_limit._ring)
    ended = time.monotonic() + MOST
    while any(each.name == "time limit" for each in threading.enumerate()) and time.monotonic() < ended:
        time.sleep(0.01)
    assert not any(each.name == "time limit" for each in threading.enumerate())


def test_a_block_in_another_thread_is_watched_and_not_rung() -> None:
    ended = threading.Event()

    def work() -> None:
        with limited(0.05, "it"):
            time.sleep(0.3)
        ended.set()

    other = threading.Thread(target=work)
    other.start()
    with pytest.raises(TimeLimitReached), limited(0.1, "it"):
        waits()
    assert len(time_limit._watched) == 1
    other.join()
    assert ended.is_set()
    assert not time_limit._watched


BEYOND = """
from curr_reft import time_limit
time_limit.GRACE = 0.3
def computes():
    return 7 ** 10**9
def swallows():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
with time_limit.limited(LONG, "outer"), time_limit.limited(0.2, "it"):
    NAME()
"""


@pytest.mark.parametrize("name", ["computes", "swallows"])
def test_what_no_signal_reaches_ends_the_process_and_is_named(name: str) -> None:
    script = BEYOND.replace("NAME", name).replace("LONG", str(LONG))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"in {name}" in done.stderr
