"""Our rewards for TRL's trainers: hand ``reward_funcs=[format_reward, accuracy_reward]`` to ``GRPOTrainer`` as it is.

The data set needs the columns ``task``, ``form`` and ``solution`` (or ``truth``), and ``options`` where a choice has
them. Completions are texts or messages. None, "no score", is what TRL leaves out: a verification that timed out, or a
truth that cannot be read (the log says so once).

Nothing of TRL is imported. What TRL does not tell a reward: whether a completion was cut at the token limit.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from curr_reft.data.styles import read_answer
from curr_reft.rewards.config import OUTCOME, SHAPING, RewardsConfig
from curr_reft.rewards.custom import load_custom
from curr_reft.rewards.grading import Completed, grade_all, total
from curr_reft.rewards.parts import Parts
from curr_reft.rewards.rows import read_question

RewardFunction: TypeAlias = Callable[..., list[float | None]]
TOTAL = "total"

log = logging.getLogger(__name__)


class PartReward:
    """One part of the reward before its weight, or with ``total`` the weighted sum of all, with TRL's signature.

    A class and not a closure, because TRL's asynchronous trainer pickles its rewards. ``__name__`` is what TRL logs.
    """

    def __init__(self, part: str, config: RewardsConfig | None = None) -> None:
        config = config or RewardsConfig()
        known = [name for name in (*config.weights(), TOTAL) if name in (*OUTCOME, *SHAPING, TOTAL)]
        if part not in known:
            raise ValueError(f"part {part!r} is not among {', '.join(known)}; switch its section on in the config")
        if part != TOTAL:  # nothing else is computed
            config = config.model_copy(update={"custom": (), **dict.fromkeys(set(SHAPING) - {part})})
        self.part = part
        self.__name__ = f"{part}_reward"
        self.parts = Parts(config)
        self._told: set[str] = set()

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        task: Sequence[str],
        form: Sequence[str],
        solution: Sequence[Any] | None = None,
        truth: Sequence[Any] | None = None,
        options: Sequence[Sequence[str] | None] | None = None,
        completion_ids: Sequence[Sequence[int]] | None = None,
        trainer_state: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """A value for each completion. Raises ValueError when the data set has no column with the truth."""
        truths = solution if truth is None else truth
        if truths is None:
            raise ValueError("the data set has neither the column solution nor truth; a reward needs one of them")
        count = len(completions)
        places: list[int] = []
        completed: list[Completed] = []
        nothing: Sequence[Any] = [None] * count
        rows = zip(prompts, completions, task, form, truths, options or nothing, completion_ids or nothing, strict=True)
        for place, (prompt, completion, its_task, its_form, its_truth, listed, ids) in enumerate(rows):
            try:
                if isinstance(its_truth, str):
                    its_truth, _ = read_answer(its_truth)
                question = read_question(its_task, its_form, its_truth, listed, prompt=_text(prompt, "user"))
            except ValueError as error:
                self._tell(str(error))
                continue
            tokens = None if ids is None else tuple(ids)
            places.append(place)
            completed.append(Completed(question, _text(completion, "assistant"), token_ids=tokens))
        values: list[float | None] = [None] * count
        for place, value in zip(places, self._values(completed, _progress(trainer_state)), strict=True):
            values[place] = value
        return values

    def _values(self, completed: Sequence[Completed], progress: float) -> Iterator[float | None]:
        config = self.parts.config
        grades = grade_all([row[:3] for row in completed], config, progress)
        for grade in self.parts.add(grades, completed):
            yield total(grade, config) if self.part == TOTAL else grade.parts[self.part]

    def _tell(self, reason: str) -> None:
        if reason not in self._told:
            self._told.add(reason)
            log.warning("%s: no score for a row: %s", self.__name__, reason)


format_reward = PartReward("format")
"""1 for exactly one think and one answer block, in order, else 0 (``rewards/format.py``)."""

accuracy_reward = PartReward("accuracy")
"""What the (task, form) of the row pays for the text of the answer block, in [0, 1] (``docs/grading.md``)."""


def reward_functions(config: RewardsConfig) -> tuple[list[RewardFunction], list[float]]:
    """The parts of a recipe's reward as (``reward_funcs``, ``reward_weights``) of TRL's GRPOConfig.

    TRL sums what is not None. To leave a completion without accuracy out of its group, as a run here does, hand over
    ``PartReward("total", config)`` alone. Raises RecipeError for a custom reward that cannot be loaded.
    """
    weights = config.weights()
    ours: list[RewardFunction] = [PartReward(part, config) for part in weights if part in (*OUTCOME, *SHAPING)]
    return [*ours, *(reward.function for reward in load_custom(config.custom))], list(weights.values())


def _text(side: Any, role: str) -> str:
    """A prompt or completion as text; of messages, the last one of the role."""
    if isinstance(side, str):
        return side
    said = [message for message in side if message.get("role", role) == role]
    content = said[-1]["content"] if said else ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content or () if part.get("type") == "text")


def _progress(state: Any) -> float:
    """The share of the training that is done, for rules that tighten; 1 outside of a trainer."""
    return min(state.global_step / state.max_steps, 1.0) if state is not None and state.max_steps > 0 else 1.0
