"""Custom rewards: functions with TRL's signature ``(prompts, completions, **columns) -> list[float | None]``.

They are called once for all completions of a step, by keywords, with what TRL 1.16's GRPOTrainer hands over:
``prompts``, ``completions``, ``completion_ids``, ``trainer_state``, ``log_extra``, ``log_metric`` and the columns of
the question, each repeated for every completion; async functions are awaited. Like TRL, None leaves the part out of
that completion's reward. Unlike TRL, a function that raises, or returns the wrong number of values or no finite
numbers, does not end the run: those completions have no score, and the metrics count them.

A function is trusted code in this process: one that never returns is not killed.
"""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from curr_reft.questions.forms import FORMS
from curr_reft.rewards.config import CustomRewardConfig
from curr_reft.rewards.grade import Grade
from curr_reft.rewards.grading import Completed
from curr_reft.rewards.signature import OUTCOME, is_async, parameters, ready, takes_all
from curr_reft.user_code import UserCode, load

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainerState:
    """What a reward may ask of the trainer: the names of transformers' TrainerState."""

    global_step: int = 0  # steps of the stage that are done
    max_steps: int = 0  # its budget; 0 outside of training


@dataclass(frozen=True, kw_only=True)
class Logged:
    """What custom rewards logged while they scored a batch (TRL's ``log_metric`` and ``log_extra``)."""

    count: int = 0  # completions of the batch; 0 where nothing is kept
    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    extra: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))  # one value a completion

    def log_metric(self, name: str, value: float) -> None:
        self.metrics[name].append(float(value))

    def log_extra(self, column: str, values: Sequence[Any]) -> None:
        if len(values) != self.count:
            raise ValueError(f"log_extra({column!r}) got {len(values)} values for {self.count} completions")
        self.extra[column] = list(values)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The values of one function, and why it has none for some completions (empty where it has)."""

    values: list[float | None]
    failures: list[str]


class CustomReward:
    """One entry of ``rewards.custom``: its function, loaded and checked."""

    def __init__(self, config: CustomRewardConfig, key: str) -> None:
        """Raises RecipeError when there is no such function, or it asks for what no one hands over."""
        self.name = config.name
        self.conversational = config.conversational
        self.code: UserCode = load(config.call, key)
        self.function = ready(self.code.value, config.options, f"{key} = {config.call}")
        named = parameters(self.function, key)
        self.takes_all = takes_all(named)
        self.names = set(named)
        self.is_async = is_async(self.function)
        self._told: set[str] = set()

    def arguments(
        self, completed: Sequence[Completed], grades: Sequence[Grade], state: TrainerState, logged: Logged
    ) -> dict[str, Any]:
        """What TRL would hand over, as far as the function takes it."""
        given: dict[str, Any] = {
            "prompts": [self._prompt(row) for row in completed],
            "completions": [self._completion(row) for row in completed],
            "completion_ids": [row.token_ids and list(row.token_ids) for row in completed],
            "trainer_state": state,
            "log_extra": logged.log_extra,
            "log_metric": logged.log_metric,
            **_columns(completed, grades),
        }
        if "images" in self.names:  # decoding costs, so only for a function that names them
            given["images"] = [[image.open() for image in row.question.images] for row in completed]
        return given if self.takes_all else {name: value for name, value in given.items() if name in self.names}

    def read(self, returned: Any, count: int) -> Scores:
        """``returned`` for ``count`` completions as finite numbers and None."""
        try:
            values = list(returned)
        except TypeError:
            return self.failed(f"returned {type(returned).__name__}, and a list of numbers is needed", count)
        if len(values) != count:
            return self.failed(f"returned the wrong number of values: {len(values)} for {count} completions", count)
        pairs = [_number(value) for value in values]
        for _, failure in pairs:
            if failure:
                self._tell(failure)
        return Scores(values=[value for value, _ in pairs], failures=[failure for _, failure in pairs])

    def failed(self, reason: str, count: int) -> Scores:
        """No score for any of the batch."""
        self._tell(reason)
        return Scores(values=[None] * count, failures=[reason] * count)

    def _tell(self, reason: str) -> None:
        """In the log once; the metrics count every time."""
        kind = reason.partition(":")[0]
        if kind not in self._told:
            self._told.add(kind)
            log.warning(
                "reward %s (%s) %s; these completions have no score, and the metrics go on counting them",
                self.name, self.code.call, reason,
            )  # fmt: skip

    def _prompt(self, row: Completed) -> Any:
        if not self.conversational:
            return row.question.prompt
        text: Any = row.question.prompt
        if row.question.images:
            text = [*({"type": "image"} for _ in row.question.images), {"type": "text", "text": text}]
        return [{"role": "user", "content": text}]

    def _completion(self, row: Completed) -> Any:
        return [{"role": "assistant", "content": row.completion}] if self.conversational else row.completion


def load_custom(configs: Sequence[CustomRewardConfig]) -> tuple[CustomReward, ...]:
    """The custom rewards of a recipe. Raises RecipeError."""
    return tuple(CustomReward(config, f"rewards.custom.{place}.call") for place, config in enumerate(configs))


def score_custom(
    rewards: Sequence[CustomReward],
    completed: Sequence[Completed],
    grades: Sequence[Grade],
    state: TrainerState,
    logged: Logged,
) -> dict[str, Scores]:
    """The scores of every function for one batch, by name. Never raises for what a function does."""
    scores: dict[str, Scores] = {}
    waiting: dict[str, tuple[CustomReward, Coroutine[Any, Any, Any]]] = {}
    for reward in rewards:
        try:
            returned = reward.function(**reward.arguments(completed, grades, state, logged))
        except Exception as error:  # the user's code: it costs these completions their score, not the run
            scores[reward.name] = reward.failed(f"raised {type(error).__name__}: {error}"[:300], len(completed))
            continue
        if reward.is_async:
            waiting[reward.name] = (reward, returned)
        else:
            scores[reward.name] = reward.read(returned, len(completed))
    answers = _wait_for([coroutine for _, coroutine in waiting.values()])
    for (name, (reward, _)), answer in zip(waiting.items(), answers, strict=True):
        if isinstance(answer, BaseException):
            scores[name] = reward.failed(f"raised {type(answer).__name__}: {answer}"[:300], len(completed))
        else:
            scores[name] = reward.read(answer, len(completed))
    return {reward.name: scores[reward.name] for reward in rewards}


def _columns(completed: Sequence[Completed], grades: Sequence[Grade]) -> dict[str, list[Any]]:
    written: dict[int, str] = {}  # the G completions of a question share it
    for row in completed:
        if id(row.question) not in written:
            written[id(row.question)] = FORMS[row.question.form].write(row.question)
    columns: dict[str, list[Any]] = {
        name: [getattr(row.question, name) for row in completed]
        for name in ("id", "origin", "task", "form", "truth", "split", "source", "domain")
    }
    return {
        **columns,
        "solution": [written[id(row.question)] for row in completed],
        "options": [list(row.question.options) for row in completed],
        **{name: [getattr(grade, name) for grade in grades] for name in OUTCOME},
    }


def _number(value: Any) -> tuple[float | None, str]:
    """(the number, "") or (None, "") for None; (None, why) for what is no finite number."""
    if value is None:
        return None, ""
    if isinstance(value, str | bytes):
        return None, f"returned text: {value!r}"[:120]
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several numbers
        return None, f"returned no number: {value!r}"[:120]
    return (number, "") if math.isfinite(number) else (None, f"returned a number that is not finite: {number}")


def _wait_for(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results, or the exceptions, of coroutines that run side by side.

    On a thread of their own: a notebook has a running event loop, in which none may be started.
    """
    if not coroutines:
        return []

    async def gather() -> list[Any]:
        return await asyncio.gather(*coroutines, return_exceptions=True)

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, gather()).result()
