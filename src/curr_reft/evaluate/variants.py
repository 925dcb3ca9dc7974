"""Evaluates one variant of a run (base, sft, rl, curr_rl, curr_reft) and writes its files under ``eval/``."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curr_reft import processes
from curr_reft.evaluate.config import EvaluationConfig
from curr_reft.evaluate.predictions import prediction_rows, save_images
from curr_reft.evaluate.suites import SUITES, evaluate
from curr_reft.files import write_jsonl
from curr_reft.integrity import read_record, write_sealed
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig


def first_of_each_task(questions: Sequence[Question], count: int | None) -> list[Question]:
    """The first ``count`` questions of each task; all when None."""
    taken: dict[str, int] = {}
    kept = []
    for question in questions:
        taken[question.task] = taken.get(question.task, 0) + 1
        if count is None or taken[question.task] <= count:
            kept.append(question)
    return kept


def evaluated_before(path: Path, weights_sha256: str | None) -> dict[str, Any] | None:
    """The record of an evaluation of these weights, where it and the answers it lists are there. Raises DamagedError
    where one was changed since."""
    record = read_record(path)
    return record if record is not None and record["weights_sha256"] == weights_sha256 else None


def evaluate_variant(
    name: str,
    load: Callable[[], Policy],
    tests: dict[str, list[Question]],
    folder: Path,
    config: EvaluationConfig,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    weights_sha256: str | None,
) -> dict[str, Any]:
    """Scores by suite, written as ``NAME.json``, with every answer in ``NAME.predictions.jsonl``.

    ``tests`` holds the open questions by split. A variant that was evaluated before, with the same weights, is read;
    else ``load`` gives its policy.
    """
    path, told = folder / f"{name}.json", folder / f"{name}.predictions.jsonl"
    known = processes.on_main(partial(evaluated_before, path, weights_sha256))
    if known is not None:
        return dict(known["splits"])
    suites = {SUITES[split]: first_of_each_task(asked, config.items) for split, asked in tests.items() if asked}
    policy = load()
    scores, answers = evaluate(policy, suites, sampling, rewards, config.bootstrap)

    def write() -> None:
        images: dict[str, str] = {}
        for suite, asked in suites.items():
            images.update(save_images(asked, config.gallery, folder / "images", suite))
        write_jsonl(told, prediction_rows(answers, images, policy.frame))
        write_sealed(path, {"model": name, "weights_sha256": weights_sha256, "splits": scores}, [told])

    processes.on_main(write)
    return scores
