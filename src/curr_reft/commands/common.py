"""What several commands share."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curr_reft.recipe import Recipe


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The recipe file; its keys are flags too (see cli.py)."""
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file (.yaml); --any.key VALUE overrides a key of it")


def read_recipe(arguments: argparse.Namespace) -> "Recipe":
    """The recipe with the flags over it; from here on its own tasks are known. Raises RecipeError."""
    from curr_reft.recipe import load_recipe
    from curr_reft.tasks.user import use_tasks

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    use_tasks(recipe.tasks)
    return recipe
