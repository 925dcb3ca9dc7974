"""Evaluate one model (a folder, or a name on the hub) greedily on the test splits of a recipe."""

import argparse
from pathlib import Path

from curr_reft.commands.common import add_model, add_recipe, model_of, read_recipe

SPLITS = ("in_domain", "out_of_domain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_recipe(parser)
    parser.add_argument("--split", choices=SPLITS, action="append", help="only this split; may be repeated")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the scores to this file as well")


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from curr_reft.errors import UsageError
    from curr_reft.evaluate.suites import SUITES, evaluate
    from curr_reft.evaluate.summary import table
    from curr_reft.evaluate.variants import first_of_each_task
    from curr_reft.files import write_json
    from curr_reft.policy.load import load_chat_processor, load_policy
    from curr_reft.prepare import load_items, prepare

    folder = model_of(arguments)
    data = load_items(recipe)
    model = recipe.model.model_copy(update={"path": folder, "lora": None})
    prepared = prepare(recipe, data, load_chat_processor(model).frame)
    asked = {split: first_of_each_task(prepared.of(split), recipe.evaluation.items) for split in SUITES}
    wanted = arguments.split or SPLITS
    suites = {SUITES[split]: own for split, own in asked.items() if own and SUITES[split] in wanted}
    if not suites:
        raise UsageError(f"--split {' '.join(wanted)}: the recipe's data holds no item of it")
    policy = load_policy(model)
    scores, _ = evaluate(policy, suites, recipe.sampling, recipe.rewards, recipe.evaluation.bootstrap)
    print("\n".join(table({arguments.variant or Path(arguments.model).name: scores})))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, {"model": folder, "evaluation": scores})
