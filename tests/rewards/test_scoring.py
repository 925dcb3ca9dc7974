"""Whom a breakdown of a custom reward costs its score, how many calls that takes, and where a call is cut off."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curr_reft.errors import TrainingError
from curr_reft.questions.question import Question
from curr_reft.rewards.config import CustomRewardConfig, RewardsConfig
from curr_reft.rewards.custom import Logged
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import Completed, grade_all, total
from curr_reft.rewards.parts import Parts
from curr_reft.train.graded import _means_of

COUNT = 16
QUESTION = Question(id="a/open", origin="a", task="math", form="open", prompt="how many?", truth="3", source="f:1")
ROWS = [Completed(QUESTION, f"<think>x</think><answer>{place}</answer>") for place in range(COUNT)]

SOURCE = """\
import asyncio, os, re, time

calls = []
bad = set()

def places(completions):
    calls.append(len(completions))
    return [int(re.search(r"<answer>(\\d+)", text)[1]) for text in completions]

def raises(completions, log_metric, log_extra):
    found = places(completions)
    log_metric("asked", len(found))
    log_extra("place", found)
    if bad & set(found):
        raise RuntimeError("a fault of mine")
    return [float(place) for place in found]

async def awaited(completions):
    await asyncio.sleep(0)
    found = places(completions)
    if bad & set(found):
        raise RuntimeError("a fault of mine")
    return [float(place) for place in found]

def leaves_out(completions):
    return [float(place) for place in places(completions) if place not in bad]

def leaves(completions):
    if bad & set(places(completions)):
        raise SystemExit(0)
    return [1.0] * len(completions)

def lazy(completions):
    for place in places(completions):
        if place in bad:
            raise KeyError(place)
        yield float(place)

def one_number(completions):
    calls.append(len(completions))
    return [1.0]

def slow_to_raise(completions):
    time.sleep(0.1)
    raise RuntimeError("a fault of mine")

def loops(completions):
    while True:
        pass

def waits(completions):
    try:
        time.sleep(60)
    except Exception:
        return [1.0] * len(completions)

def searches(completions):
    return [float(bool(re.match(r"(a+)+$", "a" * 40 + "b"))) for _ in completions]

def forks(completions):
    child = os.fork()
    if child == 0:
        raise RuntimeError("nobody ends this one")
    return [float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))] * len(completions)

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__

def mute_error(completions):
    raise Mute

def mute_values(completions):
    return [Mute() for _ in completions]

def half_a_character(completions):
    raise ValueError(chr(0xD800))

def cancelled(completions):
    raise asyncio.CancelledError

async def waits_politely(completions):
    await asyncio.sleep(60)

async def holds_up(completions):
    time.sleep(3)
"""


@pytest.fixture
def named(tmp_path: Path) -> Callable[..., RewardsConfig]:
    (tmp_path / "mine.py").write_text(SOURCE)

    def config(name: str, **keys: Any) -> RewardsConfig:
        own = {"name": "mine", "call": f"{tmp_path / 'mine.py'}:{name}", "conversational": False, **keys}
        return RewardsConfig(custom=(CustomRewardConfig(**own),))

    return config


def scored(config: RewardsConfig, bad: set[int], logged: Logged | None = None) -> tuple[list[Grade], list[int]]:
    """(the grades, the sizes of the calls)."""
    parts = Parts(config)
    code = parts.custom[0].function.__globals__
    code["calls"].clear()
    code["bad"] = bad
    return parts.add(grade_all([row[:3] for row in ROWS], config), ROWS, logged=logged), list(code["calls"])


@pytest.mark.parametrize("name", ["raises", "awaited", "leaves_out", "leaves", "lazy"])
@pytest.mark.parametrize("bad", [{5}, {0, 15}, set(range(COUNT)), {3, 4, 5}])
def test_those_at_fault_have_no_score_and_the_others_theirs(named: Any, name: str, bad: set[int]) -> None:
    config = named(name)
    found, calls = scored(config, bad)
    for place, grade in enumerate(found):
        assert grade.failed == (("mine",) if place in bad else ())
        assert (total(grade, config) is None) is (place in bad)
        assert grade.parts["mine"] == (None if place in bad else 1.0 if name == "leaves" else float(place))
        assert grade.status is (Status.GRADER_FAILED if place in bad else Status.OK)
    assert len(calls) <= 2 * COUNT
    assert calls[0] == COUNT
    if len(bad) == 1:
        assert len(calls) == 1 + 2 * 4


def test_a_batch_without_a_fault_is_asked_once(named: Any) -> None:
    assert scored(named("raises"), set())[1] == [COUNT]


def test_what_a_broken_call_logged_is_dropped(named: Any) -> None:
    logged = Logged(count=COUNT)
    scored(named("raises"), {5}, logged)
    assert sum(logged.metrics["asked"]) == COUNT - 1
    assert logged.extra["place"] == [place if place != 5 else None for place in range(COUNT)]


def test_a_function_that_compares_completions_is_not_asked_about_parts(named: Any) -> None:
    found, calls = scored(named("raises", whole_batch=True), {5})
    assert calls == [COUNT]
    assert all(grade.failed for grade in found)


def test_as_many_values_for_parts_as_for_the_whole_say_nothing_about_one(named: Any) -> None:
    found, calls = scored(named("one_number"), set())
    assert calls == [COUNT, COUNT // 2, COUNT // 2]
    assert {grade.reason for grade in found} == {
        f"reward mine returned the wrong number of values: 1 for {COUNT} completions"
    }


def test_the_search_shares_the_time_limit(named: Any) -> None:
    started = time.monotonic()
    found, _ = scored(named("slow_to_raise", timeout=0.35), set())
    assert time.monotonic() - started < 1.0, "16 completions one by one would take 3.1 s"
    assert all(grade.failed for grade in found)
    assert Status.TIMED_OUT in {grade.status for grade in found}


@pytest.mark.parametrize("name", ["loops", "waits", "searches", "waits_politely"])
def test_a_function_that_never_returns_is_cut_off(named: Any, name: str) -> None:
    config = named(name, timeout=0.2)
    started = time.monotonic()
    found, _ = scored(config, set())
    assert time.monotonic() - started < 2.0
    for grade in found:
        assert (grade.status, grade.failed, total(grade, config)) == (Status.TIMED_OUT, ("mine",), None)
        assert "timed out: its calls for one step took longer than its timeout of 0.2 s" in grade.reason
    assert scored(named("raises", timeout=0.2), {5})[0][4].parts["mine"] == 4.0  # the next call is not disturbed
    time.sleep(0.3)  # and no alarm is left


@pytest.mark.parametrize("name", ["mute_error", "mute_values", "half_a_character", "cancelled"])
def test_whatever_a_function_raises_or_returns_is_a_failure_in_words(named: Any, name: str) -> None:
    found, _ = scored(named(name), set())
    assert all(grade.failed == ("mine",) and grade.reason.encode() for grade in found)


def test_a_child_that_a_function_forked_does_not_go_on_with_the_run(named: Any, tmp_path: Path) -> None:
    found, _ = scored(named("forks"), set())
    with open(tmp_path / "survivors", "a") as file:
        file.write(f"{os.getpid()}\n")
    assert len((tmp_path / "survivors").read_text().splitlines()) == 1
    assert {grade.parts["mine"] for grade in found} == {1.0}


def test_an_async_function_that_holds_up_its_loop_stops_the_run_by_name(
    named: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curr_reft.rewards.scoring.CUT_OFF", 0.2)
    with pytest.raises(TrainingError, match=r"reward mine \(.*mine.py:holds_up\) did not return within its timeout of"):
        scored(named("holds_up", timeout=0.2), set())


@pytest.mark.parametrize("value", [1e308, -1e308, 1e200, 1.1e9])
def test_a_finite_number_that_would_overflow_is_no_score(tmp_path: Path, value: float) -> None:
    """Squares of 1e308, and sums of two, are past the floats: the deviation of a group would end the run."""
    (tmp_path / "huge.py").write_text(
        f"def huge(completions, log_metric):\n    log_metric('size', {value!r})\n    log_metric('size', {value!r})\n"
        f"    return [{value!r}, 1.0] + [0.5] * (len(completions) - 2)\n"
    )
    config = RewardsConfig(custom=(CustomRewardConfig(name="huge", call=f"{tmp_path / 'huge.py'}:huge"),))
    grades = grade_all([row[:3] for row in ROWS], config)
    first, second, *_ = Parts(config).add(grades, ROWS, logged=(logged := Logged(count=COUNT)))
    assert first.status is Status.GRADER_FAILED
    assert "beyond 1e+09" in first.reason
    assert "scale the reward to about -1 to 1" in first.reason
    assert total(first, config) is None
    assert total(second, config) == pytest.approx(total(grades[1], config) + 1.0)
    assert len(logged.metrics["size"]) == 2
    assert _means_of(logged) == {"logged": {"size": value}}


def test_a_weight_that_would_overflow_is_refused() -> None:
    for section in ({"accuracy_weight": 1e300}, {"custom": [{"name": "x", "call": "a.py:b", "weight": -1e300}]}):
        with pytest.raises(ValueError, match="1000000"):
            RewardsConfig.model_validate(section)
