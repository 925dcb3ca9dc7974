"""What the base can do in each (task, form), by sampling: where a stage has something to start from, and where not.

Greedy answers do not tell: a base that is right one time in five at temperature 1 can be always wrong greedily.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.evaluate.config import ProfileConfig
from curr_reft.evaluate.intervals import interval
from curr_reft.policy.answers import answer_all
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grading import verdict
from curr_reft.seeding import derive_seed, stream


def profile(
    policy: Policy,
    questions: Mapping[str, Sequence[Question]],
    config: ProfileConfig,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    seed: int,
) -> list[dict[str, Any]]:
    """One cell for each (task, form): strict pass rate with interval over questions, and the chance level.

    Chance: how often the right answer to another question of the cell is right. A cell is at chance when its interval
    reaches down to that.
    """
    drawn = sampling.model_copy(update={"group_size": config.samples})
    cells = []
    for form, asked in questions.items():
        for task in sorted({question.task for question in asked}):
            pool = [question for question in asked if question.task == task]
            picked = stream(seed, "profile", form, task).sample(pool, min(config.items, len(pool)))
            answers = answer_all(policy, picked, drawn, rewards, seed=derive_seed(seed, "profile", form, task))
            rates = [sum(row.correct for row in group) / len(group) for group in answers]
            cells.append(pass_cell(task, form, rates, config.samples, picked, rewards))
    return cells


def with_plan(cells: Sequence[Mapping[str, Any]], planned: Mapping[str, int]) -> list[dict[str, Any]]:
    """The cells with what the ``planned`` number of completions (by form, over its tasks) may be expected to bring."""
    tasks = Counter(cell["form"] for cell in cells)
    told = []
    for cell in cells:
        of_task = planned.get(cell["form"], 0) / tasks[cell["form"]]
        told.append({**cell, "planned_completions": round(of_task), "expected_successes": cell["pass_rate"] * of_task})
    return told


def pass_cell(
    task: str, form: str, rates: Sequence[float], samples: int, tried: Sequence[Question], rewards: RewardsConfig
) -> dict[str, Any]:
    """The pass rate of a (task, form) from those of its questions, ``samples`` answers each, beside chance.

    The interval is over questions: answers to one question are alike, and each for itself would make it too narrow.
    """
    found = interval(rates)
    chance = chance_level(tried, rewards)
    return {
        "task": task,
        "form": form,
        "pass_rate": found.mean,
        "low": found.low,
        "high": found.high,
        "chance": chance,
        "n": len(rates) * samples,
        "solved_once": sum(rate > 0 for rate in rates) / len(rates),  # pass@samples
        "at_chance": found.low <= chance,
    }


def chance_level(questions: Sequence[Question], rewards: RewardsConfig) -> float:
    """How often the right answer to another of ``questions`` is right: the mean over all ordered pairs."""
    texts = [FORMS[question.form].write(question) for question in questions]
    count = len(questions)
    if count < 2:
        return 0.0
    right = sum(
        bool(verdict(question, texts[other], rewards).correct)
        for place, question in enumerate(questions)
        for other in range(count)
        if other != place
    )
    return right / (count * (count - 1))


def stages_at_chance(cells: Sequence[Mapping[str, Any]], forms: Sequence[str]) -> bool:
    """Whether the base is at chance in every task of all ``forms``: nothing for a stage to start from."""
    own = [cell for cell in cells if cell["form"] in forms]
    return bool(own) and all(cell["at_chance"] for cell in own)
