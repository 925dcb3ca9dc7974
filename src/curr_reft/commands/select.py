"""Select what is kept of judged answers: by the threshold, the quotas and the selection of a recipe.

Writes kept.jsonl with its pictures (rows that ms-swift, LLaMA-Factory and TRL read) and account.json to the folder."""

import argparse
from functools import partial
from pathlib import Path

from curr_reft.commands.common import add_recipe, read_recipe
from curr_reft.launch import joined
from curr_reft.processes import on_main


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder that sample and judge wrote to")
    add_recipe(parser)


def execute(arguments: argparse.Namespace) -> None:
    with joined():
        on_main(partial(_select, arguments))


def _select(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from curr_reft.steps_alone import select

    select(recipe, arguments.folder)
