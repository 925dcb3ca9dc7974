"""Write one page that shows items of every split and task with their true boxes; it opens offline."""

import argparse
from pathlib import Path

from curr_reft.commands.common import add_recipe, read_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the page (.html)")


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from curr_reft.data.gallery import write_gallery
    from curr_reft.data.load import load_data
    from curr_reft.tasks import TASKS

    data = load_data(recipe.data, lambda task, raw: TASKS[task].read_truth(raw))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    print(write_gallery(data.items, arguments.out, title=f"Data of {recipe.name}"))
