"""Train and evaluate all models of a recipe (base, sft, rl, curr_rl, curr_reft) over several seeds, side by side.

Runs are in OUT/seed-N. RECIPE may also be OUT, or the directory of a run: the recipe there is taken. The same command
again goes on where it was ended, and only reads what is finished. The table
says how many updates each model took: give sft.steps and curriculum.total_steps the same budget.
"""

import argparse
from functools import partial
from pathlib import Path

from curr_reft import stopping
from curr_reft.commands.common import add_recipe, folder_to_write, read_recipe
from curr_reft.console import show
from curr_reft.launch import joined
from curr_reft.processes import on_main


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--seeds", metavar="N", type=int, nargs="+", help="seeds (default 0 1 2; of OUT, those in it)")
    parser.add_argument(
        "--out", metavar="DIR", type=folder_to_write, help="folder of the runs (default: output of the recipe)"
    )


def execute(arguments: argparse.Namespace) -> None:
    stopping.listen()
    with joined():
        given = Path(arguments.recipe)
        earlier = sorted(int(each.parent.name[5:]) for each in given.glob("seed-[0-9]*/run.json"))
        if earlier:
            arguments.recipe = str(given / f"seed-{earlier[0]}")
        recipe = read_recipe(arguments)
        beside = given.absolute().with_name(f"{given.absolute().name}-seeds")  # never inside the directory of a run
        out = arguments.out or (given if earlier else beside if given.is_dir() else recipe.output)
        seeds = arguments.seeds or earlier or [0, 1, 2]
        from curr_reft.compare import compare, lines, recipes_of
        from curr_reft.run_dir import RunDir

        recipes = recipes_of(recipe, seeds, out)
        for each in recipes:
            on_main(partial(RunDir.require_free, each.output, each, resume=True))
        from curr_reft.run import run

        found = compare(recipes, out, partial(run, resume=True))
        on_main(lambda: show("\n".join(lines(found))))
