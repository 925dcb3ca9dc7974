"""Carry out the whole method as the recipe says: curriculum, self-improvement, evaluation, report."""

import argparse
from functools import partial

from curr_reft import stopping
from curr_reft.commands.common import add_recipe, read_recipe
from curr_reft.launch import joined
from curr_reft.processes import on_main


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output directory")


def execute(arguments: argparse.Namespace) -> None:
    stopping.listen()
    with joined():
        recipe = read_recipe(arguments)
        from curr_reft.run_dir import RunDir

        # A refusal need not wait for torch.
        on_main(partial(RunDir.require_free, recipe.output, recipe, arguments.resume))
        from curr_reft.run import run

        run(recipe, resume=arguments.resume)
