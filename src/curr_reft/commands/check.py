"""Check a recipe before it costs anything: keys, rows, images, truths graded by their own graders."""

import argparse

from curr_reft.commands.common import add_recipe, read_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from curr_reft.check import check

    check(recipe)
