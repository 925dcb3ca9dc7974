"""Sample answers of a model to the queries of a recipe's pools: the first step of self-improvement, by itself.

Writes candidates.parquet and sampling.json to --out. Repeat the command to go on where it was cut off."""

import argparse

from curr_reft.commands.common import add_model, add_recipe, folder_to_write, model_of, read_recipe
from curr_reft.launch import joined


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_recipe(parser, of_model=True)
    parser.add_argument("--out", metavar="DIR", type=folder_to_write, required=True, help="folder for the answers")


def execute(arguments: argparse.Namespace) -> None:
    with joined():
        recipe = read_recipe(arguments)
        from curr_reft.steps_alone import sample

        sample(recipe, model_of(arguments), arguments.out)
