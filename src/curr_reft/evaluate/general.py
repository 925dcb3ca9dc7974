"""What a model keeps of what it was never post-trained on: greedy answers to the held-out general pool.

The pool's items are asked openly, a cell for each of their domains (arithmetic in the drawn world, text only), and as
claims to be judged yes or no, one cell for all: forms and questions that phase 1 asks of other tasks only. Nothing is
chosen by these scores; a drop from curr_rl to curr_reft is forgetting.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curr_reft import processes
from curr_reft.evaluate.intervals import require_inside
from curr_reft.evaluate.predictions import prediction_rows
from curr_reft.evaluate.suites import cell_scores
from curr_reft.evaluate.variants import evaluated_before
from curr_reft.files import write_jsonl
from curr_reft.integrity import write_sealed
from curr_reft.policy.answers import Answered, answer_greedily
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.policy import Policy
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig

SPLIT = "general"
YES_NO = "yes_no"


def general_cells(openly: Sequence[Question], as_claims: Sequence[Question]) -> dict[str, list[Question]]:
    """Cell -> its questions; empty for data without a general pool."""
    cells: dict[str, list[Question]] = {}
    for question in openly:
        cells.setdefault(question.domain or question.task, []).append(question)
    if as_claims:
        cells[YES_NO] = list(as_claims)
    return cells


def answer_cells(
    policy: Policy, cells: Mapping[str, Sequence[Question]], sampling: SamplingConfig, rewards: RewardsConfig
) -> dict[str, list[Answered]]:
    """Greedy answers, cell by cell."""
    return {name: answer_greedily(policy, asked, sampling, rewards) for name, asked in cells.items()}


def evaluate_general(
    name: str,
    load: Callable[[], Policy],
    cells: Mapping[str, Sequence[Question]],
    folder: Path,
    sampling: SamplingConfig,
    rewards: RewardsConfig,
    resamples: int,
    weights_sha256: str | None,
) -> dict[str, Any]:
    """The scores, written as ``NAME.general.json`` with every answer in ``NAME.general.jsonl``. What was evaluated
    before with the same weights is read; else ``load`` gives the policy. ``cells`` is not empty."""
    path, told = folder / f"{name}.general.json", folder / f"{name}.general.jsonl"
    known = processes.on_main(partial(evaluated_before, path, weights_sha256))
    if known is not None:
        return dict(known["cells"])
    policy = load()
    answers = answer_cells(policy, cells, sampling, rewards)
    scores = cell_scores(answers, resamples)

    def write() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_jsonl(told, prediction_rows(answers, {}, policy.frame))
        write_sealed(path, {"model": name, "weights_sha256": weights_sha256, "cells": scores}, [told])

    processes.on_main(write)
    return scores


def general_table(general: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line a model: the mean and each cell with its 95 % interval."""
    require_inside(general)
    cells = list(dict.fromkeys(cell for scores in general.values() for cell in scores if cell != "mean"))
    lines = [f"{'general pool':22}" + "".join(f"{name:>24}" for name in ("mean", *cells))]
    for model, scores in general.items():
        shown = [scores[name] for name in ("mean", *cells) if name in scores]
        texts = [f"{cell['score']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]" for cell in shown]
        lines.append(f"{model:22}" + "".join(f"{text:>24}" for text in texts))
    return lines
