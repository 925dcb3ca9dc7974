"""The steps of phase 2, each by itself: ``curr-reft sample``, ``select`` and ``sft`` (``judge`` is in ``judging/``).

They do what ``run`` does, with the same sections of the recipe, and leave the same files; a command that was cut off is
repeated and goes on.
"""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from curr_reft import processes
from curr_reft.console import Console
from curr_reft.curriculum.stage import Start
from curr_reft.errors import UsageError
from curr_reft.files import read_json, sha256_file
from curr_reft.improve.config import SelfImprovementConfig
from curr_reft.improve.kept import read_examples
from curr_reft.improve.phase import JUDGE, keep_selected, read_candidates, read_verdicts
from curr_reft.improve.sample import ACCOUNT as SAMPLING
from curr_reft.improve.sample import draw_queries, sample_candidates
from curr_reft.planned import StepAlone
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_chat_processor, load_policy
from curr_reft.prepare import Prepared, check_prompts, load_items, prepare, query_pool
from curr_reft.recipe import Recipe
from curr_reft.run_dir import RunDir
from curr_reft.train.config import SftConfig
from curr_reft.train.publish import Published
from curr_reft.trainings import Trainings


def sample(recipe: Recipe, model: str, out: Path) -> None:
    """Answers of ``model`` to the queries of the recipe's pools, in ``out``. Raises UsageError, DataError."""
    config = _section(recipe)
    start, loaded = _start(recipe, model)
    console = Console(quiet=not processes.is_main())
    prepared = _prepared(recipe, loaded)
    queries = draw_queries(query_pool(prepared), config.pools, recipe.seed)
    candidates = sample_candidates(
        partial(load_policy, loaded),
        queries,
        out,
        config,
        recipe.sampling,
        recipe.rewards,
        recipe.seed,
        start.sha256,
        console.say,
    )
    console.result(f"{len(candidates)} different answers to {len(queries)} queries: {out}")


def select(recipe: Recipe, folder: Path) -> None:
    """What is kept of the judged answers in ``folder``, by the recipe's threshold, quotas and selection.

    Raises UsageError for answers of other data, or that were not judged.
    """
    config = _section(recipe)
    console = Console()
    for name, command in ((SAMPLING, "sample"), (JUDGE, "judge")):
        if not (folder / name).is_file():
            raise UsageError(f"{folder / name} is not there; curr-reft {command} writes it")
    processor = load_chat_processor(recipe.model)
    prepared = prepare(recipe, load_items(recipe), processor.frame)
    candidates = read_candidates(folder, query_pool(prepared))
    verdicts = read_verdicts(folder, candidates)
    weights = read_json(folder / SAMPLING)["settings"]["weights_sha256"]
    account = keep_selected(candidates, verdicts, folder, config, recipe.seed, processor, weights, console.say)
    console.result(f"kept {account['kept']} of {account['candidates']} answers: {folder / 'kept.jsonl'}")


def sft(recipe: Recipe, model: str, rows: Path, out: Path, resume: bool) -> Path:
    """Fine-tune ``model`` on ``rows`` as the section self_improvement.sft (else sft) says; the folder of the best
    checkpoint. Raises UsageError, DataError, TrainingError."""
    config = _sft_section(recipe)
    start, loaded = _start(recipe, model)
    examples = read_examples(rows)
    prepared = _prepared(recipe, loaded)
    recipe = recipe.model_copy(update={"output": out, "model": loaded})
    began = time.perf_counter()
    alone = StepAlone(command="sft", trainings={"sft/sft": config.steps})
    with RunDir.open(out, recipe, resume, alone) as directory:
        directory.require_same("the data", "data_sha256", prepared.sha256)
        directory.require_same("the start", "model_sha256", start.sha256)
        directory.require_same("the rows", "rows_sha256", sha256_file(rows))

        def note(phase: str, record: Mapping[str, Any]) -> None:
            if not directory.phase_done(phase):
                seconds = round(time.perf_counter() - began, 1)
                directory.mark_done(phase, {**record, "seconds": seconds})

        console = Console(quiet=not processes.is_main())
        trainings = Trainings(
            recipe=recipe,
            prepared=prepared,
            directory=directory,
            console=console,
            base_start=start,
            sync=directory.sync_metrics,
            note=note,
        )
        done: Published = trainings.sft("sft", out / "sft", examples, config, start)
        processes.on_main(partial(directory.set_state, "done"))
        console.result(f"handed on is the checkpoint of step {done.record['chosen_step']}: {done.model}")
        return done.model


def _start(recipe: Recipe, model: str) -> tuple[Start, ModelConfig]:
    """``model`` with the hash of its weights, and how the recipe loads it."""
    transformers_logging.disable_progress_bar()
    start = Start.of_model(model)
    return start, recipe.model.model_copy(update={"path": start.path})


def _prepared(recipe: Recipe, model: ModelConfig) -> Prepared:
    """What the recipe asks, in the words for its own model and the frame of ``model``. All that can be wrong with the
    data is found before weights are read."""
    processor = load_chat_processor(model)
    prepared = prepare(recipe, load_items(recipe), processor.frame)
    check_prompts(prepared, processor)
    return prepared


def _section(recipe: Recipe) -> SelfImprovementConfig:
    if recipe.self_improvement is None:
        raise UsageError("the recipe has no section self_improvement; it says what is asked, judged and kept")
    return recipe.self_improvement


def _sft_section(recipe: Recipe) -> SftConfig:
    if recipe.self_improvement is not None:
        return recipe.self_improvement.sft
    if recipe.sft is None:
        raise UsageError("the recipe has neither self_improvement.sft nor sft; they say how to fine-tune")
    return recipe.sft
