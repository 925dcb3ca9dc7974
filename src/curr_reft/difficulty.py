"""Measures how hard a recipe's questions are, writes what was found, and says what it does to training.

A run measures the training questions of the forms it trains (``training_questions``); ``curr-reft data difficulty``
measures any model on any split (``measure_recipe``). What both write:

    questions.parquet   a row a question: PassRate
    difficulty.json     by form and by (task, form); written last: with it, the rest is whole
    difficulty.svg      the same as a picture
    cache.sqlite        every graded answer, unless another file was named
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from curr_reft import processes
from curr_reft.console import Console
from curr_reft.curriculum.difficulty import PassRate, Selection, account_lines, select
from curr_reft.errors import UsageError
from curr_reft.evaluate.pass_rates import form_means, measure, model_sha256, pass_cells
from curr_reft.evaluate.sample_cache import SampleCache
from curr_reft.evaluate.variants import first_of_each_task
from curr_reft.files import write_atomic, write_json
from curr_reft.parquet import read_rows, write_rows
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_chat_processor, load_policy
from curr_reft.policy.policy import Policy
from curr_reft.prepare import Prepared, load_items, prepare
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.questions.user import use_own
from curr_reft.recipe import Recipe
from curr_reft.report.difficulty import difficulty_picture
from curr_reft.user_code import digest

RESULT, QUESTIONS, PICTURE, CACHE = "difficulty.json", "questions.parquet", "difficulty.svg", "cache.sqlite"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which questions are measured, and how often each is asked."""

    samples: int
    split: str = "train"
    forms: tuple[str, ...] | None = None  # all
    items: int | None = None  # the first of each (form, task); all


def measure_recipe(recipe: Recipe, model: str, asked: Asked, out: Path, cache: Path) -> None:
    """Measure ``model`` on the recipe's questions, print a table, write the files to ``out``. Raises UsageError."""
    unknown = [form for form in asked.forms or () if form not in FORMS]
    if unknown:
        raise UsageError(
            f"--forms {','.join(asked.forms or ())}: {unknown[0]!r} is no form; forms are {', '.join(FORMS)}"
        )
    config = recipe.model.model_copy(update={"path": model, "lora": None})
    # Questions are worded as the recipe's own model reads them; the frame of boxes is that of the model measured.
    prepared = prepare(recipe, load_items(recipe), load_chat_processor(config).frame)
    questions = [
        question
        for form in asked.forms or FORMS
        for question in first_of_each_task(prepared.of(asked.split, form), asked.items)
    ]
    if not questions:
        held = ", ".join(sorted(prepared.questions))
        raise UsageError(f"--split {asked.split}: no question in these forms; the recipe's data holds {held}")
    transformers_logging.disable_progress_bar()
    console = Console()
    _, result = _measured(recipe, config, lambda: load_policy(config), questions, asked, out, cache, console.say)
    for line in table(result):
        console.result(line)
    console.result(f"written to {out}")


def training_questions(
    recipe: Recipe, prepared: Prepared, load: Callable[[], Policy], folder: Path, say: Callable[[str], None]
) -> Selection:
    """What a run with the section ``difficulty`` trains on: measured by the base, filtered, with an order.

    A result that is in ``folder`` is read, not measured. Raises DataError when a filter leaves nothing of a cell.
    """
    config = recipe.difficulty
    assert config is not None
    questions = {form: prepared.of("train", form) for form in recipe.curriculum.trained_forms()}
    if processes.on_main((folder / RESULT).is_file):
        rates = processes.on_main(lambda: [PassRate(**row) for row in read_rows(folder / QUESTIONS)])
    else:
        cache = Path(config.cache).expanduser() if config.cache is not None else folder / CACHE
        everything = [question for own in questions.values() for question in own]
        rates, _ = _measured(recipe, recipe.model, load, everything, Asked(samples=config.samples), folder, cache, say)
    selection = select(questions, {rate.question: rate for rate in rates}, config)
    for line in account_lines(selection.account):
        say(f"difficulty: {line}")
    return selection


def _measured(
    recipe: Recipe,
    config: ModelConfig,
    load: Callable[[], Policy],
    questions: Sequence[Question],
    asked: Asked,
    folder: Path,
    cache: Path,
    say: Callable[[str], None],
) -> tuple[list[PassRate], dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    model, code = model_sha256(config), digest(use_own(recipe.tasks, recipe.forms))
    basis = model if code is None else f"{model} {code}"  # tasks of the recipe's own grade by code of its own
    with SampleCache(cache) as kept:
        rates = measure(load, basis, questions, asked.samples, recipe.sampling, recipe.rewards, kept, say)
    result = {
        "model": config.path,
        "model_sha256": model,
        "split": asked.split,
        "samples": asked.samples,
        "temperature": recipe.sampling.temperature,
        "forms": form_means(rates),
        "cells": pass_cells(questions, rates, recipe.rewards),
    }

    def write() -> None:
        write_rows(folder / QUESTIONS, [asdict(rate) for rate in rates])
        write_atomic(folder / PICTURE, difficulty_picture(result, rates))
        write_json(folder / RESULT, result)

    processes.on_main(write)
    return rates, result


def table(result: Mapping[str, Any]) -> list[str]:
    """The result as lines of text: cells, then the forms, easiest first, and whether their intervals are apart."""
    head = ("questions", 10), ("pass rate [95 %]", 24), ("chance", 8), ("always right", 14), ("wrong", 7), ("alike", 7)
    lines = [f"{'form':8}{'task':16}" + "".join(f"{name:>{width}}" for name, width in head)]
    lines += [
        f"{cell['form']:8}{cell['task']:16}{cell['questions']:>10}"
        f"{_rate(cell['pass_rate'], cell['low'], cell['high']):>24}{cell['chance']:>8.2f}"
        f"{cell['always_right']:>14}{cell['always_wrong']:>7}"
        + (f"{cell['alike']:>7.2f}" if cell["alike"] is not None else f"{'-':>7}")
        for cell in result["cells"]
    ]
    forms = result["forms"]
    lines += [
        f"{form['form']:8}{'mean of tasks':16}{'':10}{_rate(form['mean'], form['low'], form['high']):>24}"
        for form in forms
    ]
    lines += [
        f"{easy['form']} over {hard['form']}: intervals {'apart' if easy['low'] > hard['high'] else 'overlap'}"
        for easy, hard in pairwise(forms)
    ]
    return lines


def _rate(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"
