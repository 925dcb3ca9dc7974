"""Fine-tune a model on rows of messages and images, as the section self_improvement.sft of a recipe says.

Validates on the recipe's validation split, and looks at its general pool; DIR/sft/model is the best checkpoint."""

import argparse
from pathlib import Path

from curr_reft.commands.common import add_model, add_recipe, folder_to_write, model_of, read_recipe
from curr_reft.launch import joined


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_recipe(parser, of_model=True)
    parser.add_argument("--rows", metavar="FILE", type=Path, required=True, help="JSON lines, as select writes them")
    parser.add_argument("--out", metavar="DIR", type=folder_to_write, required=True, help="folder of the training")
    parser.add_argument("--resume", action="store_true", help="go on with the training in DIR")


def execute(arguments: argparse.Namespace) -> None:
    with joined():
        recipe = read_recipe(arguments)
        from curr_reft.steps_alone import sft

        sft(recipe, model_of(arguments), arguments.rows, arguments.out, arguments.resume)
