"""What several commands share."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curr_reft.recipe import Recipe


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The recipe file; its keys are flags too (see cli.py)."""
    parser.add_argument("recipe", metavar="RECIPE", help="recipe file (.yaml); --any.key VALUE overrides a key of it")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The model that a command starts from."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="model folder or hub name; 'embedded' is the one in the package; of a run directory, its final model",
    )
    parser.add_argument(
        "--variant", metavar="NAME", help="of a run directory: another of its models, as curr_rl or curr_reft_round_2"
    )


def model_of(arguments: argparse.Namespace) -> str:
    """What ``add_model`` was given, as a folder or name to load. Raises UsageError, CheckpointError."""
    from curr_reft.errors import UsageError
    from curr_reft.run_dir import STATE

    path = Path(arguments.model)
    if not (path / STATE).is_file():
        if arguments.variant is not None:
            raise UsageError(f"--variant {arguments.variant} is for run directories; {path} is none, leave it out")
        return str(arguments.model)
    from curr_reft.export.source import RunModel, find_source

    found = find_source(path, arguments.variant, flag="--variant")
    assert isinstance(found, RunModel), "an adapter folder is no run"
    return str(found.weights)


def read_recipe(arguments: argparse.Namespace) -> "Recipe":
    """The recipe with the flags over it; from here on its own tasks are known. Raises RecipeError."""
    from curr_reft.recipe import load_recipe
    from curr_reft.tasks.user import use_tasks

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    use_tasks(recipe.tasks)
    return recipe
