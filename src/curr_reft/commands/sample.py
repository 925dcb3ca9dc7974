"""Sample answers of a model to the queries of a recipe's pools: the first step of self-improvement, by itself.

Writes candidates.parquet and sampling.json to --out. Repeat the command to go on where it was cut off."""

import argparse
from pathlib import Path

from curr_reft.commands.common import add_recipe, read_recipe
from curr_reft.launch import joined


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model folder or hub name; 'embedded' is the one in the package")
    add_recipe(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder for the answers")


def execute(arguments: argparse.Namespace) -> None:
    with joined():
        recipe = read_recipe(arguments)
        from curr_reft.steps_alone import sample

        sample(recipe, arguments.model, arguments.out)
