"""Scores of a model on the test splits, in the shape of ``summary.json``, and on the validation split."""

from collections.abc import Mapping, Sequence
from typing import Any

from curr_reft.evaluate.clusters import clusters_of
from curr_reft.evaluate.score_intervals import score_intervals
from curr_reft.policy.answers import Answered, answer_greedily
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.format import answer_block
from curr_reft.tasks import TASKS
from curr_reft.train.loop import Validation

SUITES = {"test": "in_domain", "ood_test": "out_of_domain"}
"""Split of the data -> name in the summary."""


def by_task(answered: Sequence[Answered]) -> dict[str, list[Answered]]:
    tasks: dict[str, list[Answered]] = {}
    for each in answered:
        tasks.setdefault(each.question.task, []).append(each)
    return tasks


def suite_scores(answered: Sequence[Answered], resamples: int) -> dict[str, dict[str, Any]]:
    """``cell_scores`` of answers to open questions, a cell a task.

    A task adds its measures of the whole set (mean average precision), and where its questions come from several
    domains, ``{"domains": {DOMAIN: {"accuracy", ..., "n", "clusters"}}}``.
    """
    tasks = by_task(answered)
    scores = cell_scores(tasks, resamples)
    for task, rows in tasks.items():
        scores[task] |= TASKS[task].corpus_scores([(_parsed(row), row.question.truth) for row in rows])
        domains: dict[str, list[Answered]] = {}
        for row in rows:
            domains.setdefault(row.question.domain, []).append(row)
        if len(domains) > 1:
            scores[task]["domains"] = cell_scores(domains, resamples)
            del scores[task]["domains"]["mean"]
    return scores


def cell_scores(cells: Mapping[str, Sequence[Answered]], resamples: int) -> dict[str, dict[str, Any]]:
    """``{CELL: {"accuracy", "score", "low", "high", "n", "clusters"}, ..., "mean": {...}}``; the mean is over cells,
    whatever their sizes, and has no ``n``. Low and high bound the score (``score_intervals.py``); of the ``n`` answers
    ``clusters`` are independent."""
    clusters = iter(clusters_of([row.question for rows in cells.values() for row in rows]))
    found, mean = score_intervals(
        {name: [(next(clusters), row.score) for row in rows] for name, rows in cells.items()}, resamples
    )
    accuracy = {name: sum(row.correct for row in rows) / len(rows) for name, rows in cells.items()}
    scores: dict[str, dict[str, Any]] = {
        name: {"accuracy": accuracy[name], "score": each.mean, "low": each.low, "high": each.high,
               "n": len(cells[name]), "clusters": each.clusters}
        for name, each in found.items()
    }  # fmt: skip
    scores["mean"] = {
        "accuracy": sum(accuracy.values()) / len(accuracy),
        "score": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "clusters": mean.clusters,
    }
    return scores


def _parsed(row: Answered) -> Any | None:
    """What the answer says, as its task reads it; None where nothing can be read."""
    answer = answer_block(row.completion)
    return None if answer is None else TASKS[row.question.task].parse(answer)


def validate(
    policy: Policy, questions: Sequence[Question], sampling: SamplingConfig, rewards: RewardsConfig
) -> Validation:
    """Greedy answers to validation questions; means over the tasks."""
    tasks = by_task(answer_greedily(policy, questions, sampling, rewards))
    cells = {
        task: {
            "accuracy": sum(row.correct for row in rows) / len(rows),
            "score": sum(row.score for row in rows) / len(rows),
        }
        for task, rows in tasks.items()
    }
    accuracy, score = (sum(cell[key] for cell in cells.values()) / len(cells) for key in ("accuracy", "score"))
    return Validation(accuracy=accuracy, score=score, tasks=cells)


def evaluate(
    policy: Policy,
    suites: Mapping[str, Sequence[Question]],
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    resamples: int,
) -> tuple[dict[str, Any], dict[str, list[Answered]]]:
    """(scores by suite, answers by suite) of greedy answers to open questions."""
    answers = {name: answer_greedily(policy, questions, sampling, rewards) for name, questions in suites.items()}
    return {name: suite_scores(rows, resamples) for name, rows in answers.items()}, answers
