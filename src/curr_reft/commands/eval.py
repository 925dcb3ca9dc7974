"""Evaluate one model (a folder, or a name on the hub) greedily on the test splits of a recipe."""

import argparse
from pathlib import Path

from curr_reft.commands.common import add_recipe, read_recipe

SPLITS = ("in_domain", "out_of_domain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model folder or hub name; 'embedded' is the one in the package")
    add_recipe(parser)
    parser.add_argument("--split", choices=SPLITS, action="append", help="only this split; may be repeated")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the scores to this file as well")


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from curr_reft.evaluate.command import evaluate_model

    evaluate_model(arguments.model, recipe, splits=tuple(arguments.split or SPLITS), json_file=arguments.json)
