"""Check a recipe before it costs anything: keys, rows, images, truths graded by their own graders, tokens of prompts.

Everything that is wrong is listed as "file:line: reason", and the exit code is 2. No weights are read, only the
model's configuration and processor; --no-model does without these too.
"""

import argparse

from curr_reft.commands.common import add_recipe, file_to_write, read_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument(
        "--no-model",
        action="store_true",
        help="check rows, images, questions and truths alone, for a model that is not here",
    )
    add_gpu_memory(parser)
    parser.add_argument("--json", metavar="FILE", type=file_to_write, help="write all numbers and problems there")


def add_gpu_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gpu-memory", metavar="SIZE", help="of the GPU the run is for, as 24GB; default: that of this machine"
    )


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from curr_reft.checks.check import check
    from curr_reft.checks.memory import read_size

    gpu_memory = read_size(arguments.gpu_memory) if arguments.gpu_memory else None
    check(recipe, with_model=not arguments.no_model, gpu_memory=gpu_memory, json=arguments.json)
