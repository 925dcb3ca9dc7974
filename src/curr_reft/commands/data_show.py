"""Write one page that shows questions of every split, task and form: boxes drawn, options listed, right ones marked. It
opens offline."""

import argparse

from curr_reft.commands.common import add_recipe, file_to_write, read_recipe
from curr_reft.commands.data_build import add_frame
from curr_reft.console import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--out", metavar="FILE", type=file_to_write, required=True, help="the page (.html)")
    parser.add_argument(
        "--each", metavar="N", type=int, default=6, help="questions shown of every split, task and form (default 6)"
    )
    add_frame(parser)


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from curr_reft.errors import UsageError

    if arguments.each < 1:
        raise UsageError(f"--each {arguments.each}: must be at least 1")
    from curr_reft.question_sets import show_questions

    show(show_questions(recipe, arguments.out, frame=arguments.frame, each=arguments.each))
