"""What several commands share."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curr_reft.recipe import Recipe


def file_to_write(text: str) -> Path:
    """The type of a flag that names a file: what cannot be written is refused before the work, not after it."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file")
    return _writable(path)


def folder_to_write(text: str) -> Path:
    """The type of a flag that names a folder, likewise."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file; name a folder")
    return _writable(path)


def _writable(path: Path) -> Path:
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if path != there and not there.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: {there} is no folder; choose another place")
    if not os.access(there, os.W_OK):
        raise argparse.ArgumentTypeError(
            f"{path} cannot be written: {there.absolute()} is read-only here; choose another place, or ask for the "
            "right to write there"
        )
    return path


def add_recipe(parser: argparse.ArgumentParser, of_model: bool = False) -> None:
    """The recipe; its keys are flags too (see cli.py). ``of_model``: the default is that of the run of MODEL."""
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        nargs="?" if of_model else None,
        help="recipe file (.yaml), run directory, or name of a shipped recipe (demo); --any.key VALUE overrides a key"
        + ("; default: the recipe of the run that MODEL is of" if of_model else ""),
    )


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
    from curr_reft.run_record import STATE

    path = Path(arguments.model)
    if not (path / STATE).is_file():
        if arguments.variant is not None:
            raise UsageError(f"--variant {arguments.variant} is for run directories; {path} is none, leave it out")
        if path.is_dir():
            from curr_reft.export.source import require_published

            require_published(path)
        return str(arguments.model)
    from curr_reft.export.source import RunModel, find_source

    found = find_source(path, arguments.variant, flag="--variant")
    assert isinstance(found, RunModel), "an adapter folder is no run"
    return str(found.weights)


def read_recipe(arguments: argparse.Namespace) -> "Recipe":
    """The recipe with the flags over it; from here on its own tasks are known. Raises RecipeError, UsageError."""
    from curr_reft.questions.user import use_own
    from curr_reft.recipe import load_recipe
    from curr_reft.recipe_source import find

    recipe = load_recipe(find(arguments.recipe or _run_of(arguments.model)), arguments.overrides)
    use_own(recipe.tasks, recipe.forms)
    return recipe


def _run_of(model: str) -> str:
    """The run directory that MODEL is, or lies in. Raises UsageError where there is none."""
    from curr_reft.errors import UsageError
    from curr_reft.run_record import STATE

    folder = Path(model).absolute()
    for each in (folder, *folder.parents):
        if (each / STATE).is_file():
            return str(each)
    raise UsageError(f"{model} is no run directory and lies in none; give the recipe too: MODEL RECIPE")
