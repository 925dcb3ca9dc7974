"""Custom rewards: functions with TRL's signature ``(prompts, completions, **columns) -> list[float | None]``.

They are called once for all completions of a step, by keywords, with what TRL 1.16's GRPOTrainer hands over:
``prompts``, ``completions``, ``completion_ids``, ``trainer_state``, ``log_extra``, ``log_metric`` and the columns of
the question, each repeated for every completion; async functions are awaited. Like TRL, None leaves the part out of
that completion's reward. Unlike TRL, a function that raises, or returns the wrong number of values or no finite
numbers, or does not return in time, does not end the run: ``scoring.py`` finds out which completions that costs their
score, and the metrics count them.

A function is trusted code in this process. It gets copies, and ``process_state.py`` puts back what it changes of the
process.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
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


class CustomReward:
    """One entry of ``rewards.custom``: its function, loaded and checked."""

    def __init__(self, config: CustomRewardConfig, key: str) -> None:
        """Raises RecipeError when there is no such function, or it asks for what no one hands over."""
        self.name = config.name
        self.conversational = config.conversational
        self.timeout = config.timeout
        self.whole_batch = config.whole_batch
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

    def tell(self, reason: str) -> None:
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


def _columns(completed: Sequence[Completed], grades: Sequence[Grade]) -> dict[str, list[Any]]:
    written: dict[int, str] = {}  # the G completions of a question share it
    for row in completed:
        if id(row.question) not in written:
            written[id(row.question)] = FORMS[row.question.form].write(row.question)
    columns: dict[str, list[Any]] = {
        name: [deepcopy(getattr(row.question, name)) for row in completed]
        for name in ("id", "origin", "task", "form", "truth", "split", "source", "domain")
    }
    return {
        **columns,
        "solution": [written[id(row.question)] for row in completed],
        "options": [list(row.question.options) for row in completed],
        **{name: [getattr(grade, name) for grade in grades] for name in OUTCOME},
    }
