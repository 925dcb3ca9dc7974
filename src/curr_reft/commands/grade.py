"""Grade answers: JSONL rows {"task", "form", "truth", "completion"} on standard input come back with "format",
"accuracy" (null where there is no score), "status", every part of the reward under "parts", and "reward". Counts by
status and means go to standard error. A box truth is a JSON list of four numbers."""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe", metavar="RECIPE", help="take the sections rewards and tasks of this recipe; default: the defaults"
    )


def execute(arguments: argparse.Namespace) -> None:
    from curr_reft.questions.user import use_own
    from curr_reft.rewards.config import RewardsConfig

    config = RewardsConfig()
    if arguments.recipe:
        from curr_reft.commands.common import read_recipe

        config = read_recipe(arguments).rewards
    elif arguments.overrides:
        from curr_reft.errors import RecipeError

        raise RecipeError(f"{arguments.overrides[0]} overrides a key of a recipe; give the recipe with --recipe")
    else:
        use_own(())
    from curr_reft.rewards.command import grade_lines

    grade_lines(sys.stdin, sys.stdout, config, account=sys.stderr)
