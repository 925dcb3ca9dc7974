"""What custom rewards pay for one batch, and whom a breakdown costs its score.

Every function is called once for all completions. A call that raises, or that returns another number of values, says
nothing about any of them: it is repeated for the halves, their halves and so on, until those at fault stand alone.
They have no score, and the others keep what they are paid. One at fault among N takes 2 log2(N) further calls, each of
half the size of the one before; a function that always raises takes 2 N, and soon stops the run
(``train/reward_faults.py``).

So a value must depend on its own completion alone. A function that compares completions says so (``whole_batch``) and
is not asked about parts. All calls of a function for one batch share its time limit (``time_limit.py``).
"""

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias

from curr_reft.errors import TrainingError
from curr_reft.process_state import keep
from curr_reft.rewards.custom import CustomReward, Logged, TrainerState
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import Completed
from curr_reft.time_limit import TimeLimitReached, end_forked_child, limited

LARGEST = 1e9
"""A reward beyond it, of either sign, is no score: the means of a group, and of a step, would lose the others or
overflow."""
CUT_OFF = 5.0  # seconds for an async function that is past its limit to be gone


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a function has no score for a completion."""

    reason: str
    status: Status = Status.GRADER_FAILED


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The values of one function, and why it has none for some completions (None where it has, or wants none)."""

    values: list[float | None]
    failures: list[Failure | None]


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What one call came to: values, or a failure."""

    logged: Logged
    values: list[Any] | None = None
    failure: Failure | None = None


class _UnusableError(Exception):
    """What was returned is no list. Never reaches a user."""


def score_custom(
    rewards: Sequence[CustomReward],
    completed: Sequence[Completed],
    grades: Sequence[Grade],
    state: TrainerState,
    logged: Logged,
) -> dict[str, Scores]:
    """The scores of every function for one batch, by name. What calls that came through logged goes to ``logged``.

    Raises TrainingError for an async function that cannot be cut off, and nothing else for what a function does, but
    for KeyboardInterrupt, which is the user's.
    """
    asked = [_Asked(reward, completed, grades, state, logged) for reward in rewards]
    everyone = range(len(completed))
    for each, answer in zip(asked, _ask([(each, everyone) for each in asked]), strict=True):
        each.take(everyone, answer)
    return {each.reward.name: Scores(values=each.values, failures=each.failures) for each in asked}


class _Asked:
    """One function and one batch: its clock, and what is found out so far."""

    def __init__(
        self,
        reward: CustomReward,
        completed: Sequence[Completed],
        grades: Sequence[Grade],
        state: TrainerState,
        logged: Logged,
    ) -> None:
        self.reward, self.completed, self.grades, self.state, self.logged = reward, completed, grades, state, logged
        self.left = reward.timeout  # seconds
        self.values: list[float | None] = [None] * len(completed)
        self.failures: list[Failure | None] = [None] * len(completed)

    def take(self, part: range, answer: _Answer) -> None:
        """Keep what a call for the completions of ``part`` came to; find out whose fault it is that it broke down."""
        if answer.values is not None and len(answer.values) == len(part):
            self._keep(part, answer.values, answer.logged)
            return
        failure = answer.failure or _wrong_number(answer.values or [], part)
        is_divided = len(part) > 1 and not self.reward.whole_batch and failure.status is not Status.TIMED_OUT
        if is_divided:
            halves = [part[: len(part) // 2], part[len(part) // 2 :]]
            answers = _ask([(self, half) for half in halves])
            if _adds_up(answer, answers):
                for half, of_half in zip(halves, answers, strict=True):
                    self.take(half, of_half)
                return
        for place in part:
            self._fail(place, failure)

    def call(self, part: range) -> _Answer:
        """Ask about some of the completions."""
        logged, started = Logged(count=len(part)), time.monotonic()
        try:
            if self.left <= 0:
                return self._too_late(logged)
            arguments = self._arguments(part, logged)
            what = f"reward {self.reward.name} ({self.reward.code.call})"
            with keep(what), limited(self.left, what):
                return _Answer(logged=logged, values=_listed(self.reward.function(**arguments)))
        except TimeLimitReached:
            return self._too_late(logged)
        except (KeyboardInterrupt, TrainingError):
            raise
        except BaseException as error:  # the user's code: it costs a score, not the run
            return _Answer(logged=logged, failure=_raised(error))
        finally:
            self.left -= time.monotonic() - started

    async def wait_for(self, part: range) -> _Answer:
        """``call`` of an async function."""
        logged, started = Logged(count=len(part)), time.monotonic()
        limit, process = asyncio.timeout(max(self.left, 0.0)), os.getpid()
        try:
            async with limit:
                returned = await self.reward.function(**self._arguments(part, logged))
                end_forked_child(process, f"reward {self.reward.name} ({self.reward.code.call})")
                return _Answer(logged=logged, values=_listed(returned))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self._too_late(logged) if limit.expired() else _Answer(logged=logged, failure=_raised(error))
        finally:
            self.left -= time.monotonic() - started

    def _arguments(self, part: range, logged: Logged) -> dict[str, Any]:
        span = slice(part.start, part.stop)
        return self.reward.arguments(self.completed[span], self.grades[span], self.state, logged)

    def _keep(self, part: range, values: Sequence[Any], logged: Logged) -> None:
        for place, value in zip(part, values, strict=True):
            number, reason = _number(value)
            self.values[place] = number
            if reason:
                self._fail(place, Failure(reason=reason))
        # Copies: a thread that the function left behind may still log.
        for name, numbers in list(logged.metrics.items()):
            self.logged.metrics[name].extend(numbers)
        for name, column in list(logged.extra.items()):
            if name not in self.logged.extra:
                self.logged.extra[name] = [None] * len(self.completed)
            self.logged.extra[name][part.start : part.stop] = column

    def _fail(self, place: int, failure: Failure) -> None:
        self.failures[place] = failure
        self.reward.tell(failure.reason)

    def _too_late(self, logged: Logged) -> _Answer:
        reason = f"timed out: its calls for one step took longer than its timeout of {self.reward.timeout:g} s"
        return _Answer(logged=logged, failure=Failure(reason=reason, status=Status.TIMED_OUT))


_Call: TypeAlias = tuple[_Asked, range]


def _ask(calls: Sequence[_Call]) -> list[_Answer]:
    """The answers in order: plain functions one after the other, then async ones side by side."""
    answers = {place: each.call(part) for place, (each, part) in enumerate(calls) if not each.reward.is_async}
    waiting = {place: call for place, call in enumerate(calls) if call[0].reward.is_async}
    answers.update(zip(waiting, _side_by_side(list(waiting.values())), strict=True))
    return [answers[place] for place in range(len(calls))]


def _side_by_side(calls: Sequence[_Call]) -> list[_Answer]:
    """On a thread of their own: a notebook has a running event loop, in which none may be started."""
    if not calls:
        return []
    answers: Future[list[_Answer]] = Future()

    async def gather() -> None:
        answers.set_result(await asyncio.gather(*(each.wait_for(part) for each, part in calls)))

    process = os.getpid()

    def work() -> None:
        try:
            asyncio.run(gather())
        except BaseException as error:
            end_forked_child(process, f"reward {names}")
            if answers.done():
                raise
            answers.set_exception(error)

    longest = max(each.left for each, _ in calls)
    names = ", ".join(f"{each.reward.name} ({each.reward.code.call})" for each, _ in calls)
    try:
        with keep(f"reward {names}"), limited(max(longest, 0.0) + CUT_OFF, f"reward {names}"):
            threading.Thread(target=work, daemon=True, name="async rewards").start()
            return answers.result()
    except TimeLimitReached:
        raise TrainingError(
            f"reward {names} did not return within its timeout of {longest:g} s and cannot be cut off: an async "
            "function that waits or computes without await holds up itself and all others. Await what it waits for, "
            "or make it a plain function"
        ) from None


def _listed(returned: Any) -> list[Any]:
    try:
        values = iter(returned)
    except TypeError:
        raise _UnusableError(f"returned {type(returned).__name__}, and a list of numbers is needed") from None
    return list(values)  # of a generator this is where it works


def _raised(error: BaseException) -> Failure:
    if isinstance(error, _UnusableError):
        return Failure(reason=str(error))
    return Failure(reason=f"raised {type(error).__name__}: {_told(error, str)}"[:300])


def _told(value: Any, by: Callable[[Any], str] = repr) -> str:
    """A user's object in words that can be written to a file, whatever its own way to words does."""
    try:
        return by(value).encode(errors="replace").decode()
    except Exception:
        return f"(a {type(value).__name__} that does not say what it is)"


def _wrong_number(values: Sequence[Any], part: range) -> Failure:
    return Failure(reason=f"returned the wrong number of values: {len(values)} for {len(part)} completions")


def _adds_up(whole: _Answer, halves: Sequence[_Answer]) -> bool:
    """Whether as many values came for the halves as for the whole. A function that returns, say, one number whatever it
    is given would seem to answer about each completion alone."""
    counts = [len(answer.values) for answer in halves if answer.values is not None]
    return whole.values is None or len(counts) < len(halves) or sum(counts) == len(whole.values)


def _number(value: Any) -> tuple[float | None, str]:
    """(the number, "") or (None, "") for None; (None, why) for what is no finite number."""
    if value is None:
        return None, ""
    if isinstance(value, str | bytes):
        return None, f"returned text: {_told(value)}"[:120]
    try:
        number = float(value)
    except Exception:  # whatever the object does: a tensor of several numbers, a class of the user's
        return None, f"returned no number: {_told(value)}"[:120]
    if not math.isfinite(number):
        return None, f"returned a number that is not finite: {number}"
    if abs(number) > LARGEST:
        return None, f"returned a number beyond {LARGEST:g}: {number:g}; scale the reward to about -1 to 1"
    return number, ""
