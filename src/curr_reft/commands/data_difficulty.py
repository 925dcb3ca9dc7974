"""Measure how often a model answers each question of a recipe rightly when sampled; nothing is asked twice.

Writes to --out: questions.parquet (a row a question), difficulty.json (by form and task), difficulty.svg, and
cache.sqlite, from which a command that was cut off, or asks for more samples, goes on.
"""

import argparse

from curr_reft.commands.common import add_recipe, file_to_write, folder_to_write, read_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model folder or hub name; 'embedded' is the one in the package")
    add_recipe(parser, of_model=True)
    parser.add_argument("--samples", metavar="K", type=int, default=8, help="answers to each question (default 8)")
    parser.add_argument("--split", metavar="SPLIT", default="train", help="split whose questions are asked: train, ...")
    parser.add_argument("--forms", metavar="FORM,...", help="only these forms, as binary,open; default: all")
    parser.add_argument(
        "--items", metavar="N", type=int, help="the first N questions of each form and task; default: all"
    )
    parser.add_argument("--out", metavar="DIR", type=folder_to_write, required=True, help="folder for the results")
    parser.add_argument("--cache", metavar="FILE", type=file_to_write, help="use this file instead of DIR/cache.sqlite")


def execute(arguments: argparse.Namespace) -> None:
    for flag in ("samples", "items"):
        value = getattr(arguments, flag)
        if value is not None and value < 1:
            from curr_reft.errors import UsageError

            raise UsageError(f"--{flag} {value}: must be at least 1")
    recipe = read_recipe(arguments)
    from curr_reft.difficulty import Asked, measure_recipe

    measure_recipe(
        recipe,
        arguments.model,
        Asked(
            samples=arguments.samples,
            split=arguments.split,
            forms=tuple(arguments.forms.split(",")) if arguments.forms else None,
            items=arguments.items,
        ),
        arguments.out,
        arguments.cache or arguments.out / "cache.sqlite",
    )
