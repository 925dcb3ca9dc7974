"""Grade answers: JSONL rows {"task", "form", "truth", "completion"} on standard input come back with "format",
"accuracy" (null where there is no score) and "status". A box truth is a JSON list of four numbers."""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe", metavar="RECIPE", help="take the section rewards of this recipe; default: its defaults"
    )


def execute(arguments: argparse.Namespace) -> None:
    from curr_reft.rewards.config import RewardsConfig

    config = RewardsConfig()
    if arguments.recipe:
        from curr_reft.recipe import load_recipe

        config = load_recipe(arguments.recipe, arguments.overrides).rewards
    elif arguments.overrides:
        from curr_reft.errors import RecipeError

        raise RecipeError(f"{arguments.overrides[0]} overrides a key of a recipe; give the recipe with --recipe")
    from curr_reft.rewards.command import grade_lines

    grade_lines(sys.stdin, sys.stdout, config)
