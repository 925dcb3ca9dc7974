"""What the measured pass rates do to training: which questions are asked, and in which order.

Only training questions are filtered or ordered; validation and test stay what they are. The rates are those of the base
before any training (``evaluate/difficulty.py`` measures them), so "always wrong" means: before the easier stages.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curr_reft.curriculum.config import DifficultyConfig
from curr_reft.errors import DataError
from curr_reft.questions.question import Question

RIGHT, WRONG, KEPT = "always_right", "always_wrong", "kept"


@dataclass(frozen=True, kw_only=True)
class PassRate:
    """How often a model answered one question rightly, by the strict verdict."""

    question: str  # Question.id
    origin: str
    task: str
    form: str
    n: int  # answers sampled
    passes: int  # of them right
    rate: float  # passes / n
    low: float  # 95 % interval of Wilson
    high: float
    accuracy: float  # mean accuracy; an answer without a score counts 0

    @property
    def learnable(self) -> float:
        """An estimate of p (1 - p), the variance of one answer's verdict, that no finite n makes 0.

        With the mean (passes + 1) / (n + 2) of p after a uniform prior (Laplace's rule of succession): a question that
        was right in all of 8 samples is still right in only about 9 of 10.
        """
        p = (self.passes + 1) / (self.n + 2)
        return p * (1 - p)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The training questions that are asked, with their rates."""

    questions: Mapping[str, list[Question]]  # form -> kept
    rates: Mapping[str, PassRate]  # by question id
    order: str
    account: Mapping[str, Mapping[str, Mapping[str, int]]]  # form -> task -> kept, always_right, always_wrong

    def epoch(self, pool: Sequence[Question], planned: int, rng: random.Random) -> list[int]:
        """The order in which one epoch asks the questions of a (form, task) cell; see ``EPOCHS``."""
        return EPOCHS[self.order]([self.rates[question.id] for question in pool], planned, rng)


def select(
    questions: Mapping[str, Sequence[Question]], rates: Mapping[str, PassRate], config: DifficultyConfig
) -> Selection:
    """Leave out what ``config`` says. Raises DataError when nothing is left of a (form, task) cell."""
    kept: dict[str, list[Question]] = {form: [] for form in questions}
    account: dict[str, dict[str, dict[str, int]]] = {}
    for form, asked in questions.items():
        for question in asked:
            fate = _fate(rates[question.id], config)
            counts = account.setdefault(form, {}).setdefault(question.task, {KEPT: 0, RIGHT: 0, WRONG: 0})
            counts[fate] += 1
            if fate == KEPT:
                kept[form].append(question)
    empty = [
        (
            "difficulty",
            f"no {task} question in the form {form} is left to train on: {_counts(counts)}; {_way_out(counts)}",
        )
        for form, tasks in account.items()
        for task, counts in tasks.items()
        if counts[KEPT] == 0
    ]
    if empty:
        raise DataError(*empty[0], tuple(empty))
    return Selection(questions=kept, rates=rates, order=config.order, account=account)


def account_lines(account: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """One line for each (form, task): what was kept and what was dropped."""
    return [f"{form} {task}: {_counts(counts)}" for form, tasks in account.items() for task, counts in tasks.items()]


def _fate(rate: PassRate, config: DifficultyConfig) -> str:
    """All samples agree, and the interval's other end says that they are enough of them to call it always."""
    if config.drop_always_right and rate.passes == rate.n and rate.low >= config.sure:
        return RIGHT
    if config.drop_always_wrong and rate.passes == 0 and rate.high <= 1 - config.sure:
        return WRONG
    return KEPT


def _counts(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return f"{counts[KEPT]} of {total} kept, {counts[RIGHT]} always right, {counts[WRONG]} always wrong"


def _way_out(counts: Mapping[str, int]) -> str:
    blamed = "drop_always_right" if counts[RIGHT] >= counts[WRONG] else "drop_always_wrong"
    return (
        f"set difficulty.{blamed}: false, raise difficulty.samples and difficulty.sure, or take the form out of "
        "curriculum.stages"
    )


def shuffled(rates: Sequence[Any], planned: int, rng: random.Random) -> list[int]:
    """Every question once, in any order."""
    order = list(range(len(rates)))
    rng.shuffle(order)
    return order


def easy_to_hard(rates: Sequence[PassRate], planned: int, rng: random.Random) -> list[int]:
    """Every question once; those that the stage will come to (the next ``planned`` prompts) from easy to hard.

    The ones it comes to are drawn at random: were the whole cell sorted, a stage shorter than an epoch would only see
    the easiest. Equal rates stay in random order.
    """
    order = shuffled(rates, planned, rng)
    met, beyond = order[:planned], order[planned:]
    return [*_sorted(met, rates), *_sorted(beyond, rates)]


def by_variance(rates: Sequence[PassRate], planned: int, rng: random.Random) -> list[int]:
    """As many draws as questions, each question in proportion to ``learnable``: the chance that two answers differ.

    Systematic resampling (Kitagawa 1996): one random offset, equal steps along the summed weights, so that a question
    due 1.3 draws gets one or two and never none by bad luck. Then in random order.
    """
    weights = [rate.learnable for rate in rates]
    step = sum(weights) / len(weights)
    point, reached = rng.random() * step, 0.0
    drawn: list[int] = []
    for place, weight in enumerate(weights):
        reached += weight
        while point < reached and len(drawn) < len(weights):
            drawn.append(place)
            point += step
    drawn += [len(weights) - 1] * (len(weights) - len(drawn))  # the last point may fall beyond a rounded sum
    rng.shuffle(drawn)
    return drawn


def _sorted(places: Sequence[int], rates: Sequence[PassRate]) -> list[int]:
    return sorted(places, key=lambda place: -rates[place].rate)


EPOCHS = {"none": shuffled, "easy_to_hard": easy_to_hard, "variance": by_variance}
"""Names of ``difficulty.order``."""
