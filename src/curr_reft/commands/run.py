"""Carry out the whole method as the recipe says: curriculum, self-improvement, evaluation, report."""

import argparse
import logging
from functools import partial
from pathlib import Path

from curr_reft import stopping
from curr_reft.commands.common import add_recipe, read_recipe
from curr_reft.launch import joined
from curr_reft.processes import on_main

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output directory")
    parser.add_argument("--dry-run", action=_NameCheck, nargs=0, help=argparse.SUPPRESS)  # of other tools


class _NameCheck(argparse.Action):
    """``--dry-run``: answered with the command that does it, with or without a recipe beside it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        recipe = getattr(namespace, "recipe", None) or "RECIPE"
        parser.error(f"the dry run is curr-reft check {recipe}: it checks everything and trains nothing")


def execute(arguments: argparse.Namespace) -> None:
    stopping.listen()
    with joined():
        given = Path(arguments.recipe)
        if given.is_dir() and not any(each.partition("=")[0] == "--output" for each in arguments.overrides):
            arguments.overrides += ["--output", str(given)]  # where the run is now, wherever it was started
        recipe = read_recipe(arguments)
        from curr_reft.run_dir import RunDir

        # A refusal need not wait for torch.
        on_main(partial(RunDir.require_free, recipe.output, recipe, arguments.resume))
        if arguments.resume:
            on_main(partial(_tell_of_a_beginning, recipe.output, Path(arguments.recipe)))
        from curr_reft.run import run

        run(recipe, resume=arguments.resume)


def _tell_of_a_beginning(output: Path, recipe: Path) -> None:
    """--resume begins a run where there is none, so that one command can be repeated; whoever stands in another folder
    than before should see that it does."""
    from curr_reft.run_record import STATE

    if (output / STATE).is_file():
        return
    logger.info("--resume: there is no run in %s, so one begins", output.absolute())
    if (recipe.parent / STATE).is_file():
        logger.warning("%s belongs to the run in %s; to go on with that: --output %s", recipe, *[recipe.parent] * 2)
