"""Evaluate one model (a folder, or a name on the hub) greedily on the test splits and the general pool of a recipe."""

import argparse
from pathlib import Path

from curr_reft.commands.common import add_model, add_recipe, file_to_write, folder_to_write, model_of, read_recipe
from curr_reft.console import show

SPLITS = ("in_domain", "out_of_domain", "general")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_recipe(parser, of_model=True)
    parser.add_argument("--split", choices=SPLITS, action="append", help="only this split; may be repeated")
    parser.add_argument("--json", metavar="FILE", type=file_to_write, help="write the scores to this file as well")
    parser.add_argument(
        "--answers", metavar="DIR", type=folder_to_write, help="write every answer to files in this folder as well"
    )


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from transformers.utils import logging as transformers_logging

    from curr_reft.errors import UsageError
    from curr_reft.evaluate.general import SPLIT as GENERAL
    from curr_reft.evaluate.general import answer_cells, general_table
    from curr_reft.evaluate.predictions import prediction_rows
    from curr_reft.evaluate.suites import SUITES, cell_scores, evaluate
    from curr_reft.evaluate.summary import table
    from curr_reft.evaluate.variants import first_of_each_task
    from curr_reft.files import write_json, write_jsonl
    from curr_reft.policy.load import load_chat_processor, load_policy
    from curr_reft.prepare import load_items, prepare

    transformers_logging.disable_progress_bar()
    folder = model_of(arguments)
    data = load_items(recipe)
    model = recipe.model.model_copy(update={"path": folder, "lora": None})
    prepared = prepare(recipe, data, load_chat_processor(model).frame)
    asked = {split: first_of_each_task(prepared.of(split), recipe.evaluation.items) for split in SUITES}
    wanted = arguments.split or SPLITS
    suites = {SUITES[split]: own for split, own in asked.items() if own and SUITES[split] in wanted}
    cells = prepared.general() if GENERAL in wanted else {}
    if not suites and not cells:
        raise UsageError(f"--split {' '.join(wanted)}: the recipe's data holds no item of it")
    policy, resamples = load_policy(model), recipe.evaluation.bootstrap
    scores, answers = evaluate(policy, suites, recipe.sampling, recipe.rewards, resamples)
    general = answer_cells(policy, cells, recipe.sampling, recipe.rewards)
    of_general = cell_scores(general, resamples) if general else {}
    name = arguments.variant or Path(arguments.model).name
    show("\n".join((table({name: scores}) if scores else []) + (general_table({name: of_general}) if general else [])))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, {"model": folder, "evaluation": scores, "general": of_general})
    if arguments.answers is not None:
        arguments.answers.mkdir(parents=True, exist_ok=True)
        for kind, own in (("predictions", answers), ("general", general)):
            write_jsonl(arguments.answers / f"{name}.{kind}.jsonl", prediction_rows(own, {}, policy.frame))
