"""Train the embedded model from nothing, as the shipped one was made (about half an hour on one core)."""

import argparse
from pathlib import Path

from curr_reft.commands.common import folder_to_write
from curr_reft.console import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="DIR", type=folder_to_write, required=True, help="folder for the model; must be new or empty"
    )
    parser.add_argument(
        "--phases",
        metavar="DIR",
        type=folder_to_write,
        help="keep the model after each phase here; a build goes on from them",
    )


def execute(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    from curr_reft.errors import UsageError

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"--out {out} is in use; choose another folder or remove it")
    from curr_reft.embedded.build import build

    show(build(out, phases=arguments.phases))
