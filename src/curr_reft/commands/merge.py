"""Write a model as a plain folder that transformers and vLLM load, with the files of its base and a model card.

SOURCE is the directory of a run, or a folder with an adapter of peft's. The folder is new, or nothing is written.
"""

import argparse
import logging
from pathlib import Path

from curr_reft.commands.common import folder_to_write
from curr_reft.console import show

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=folder_to_write, required=True, help="the folder to write; it must not exist"
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", type=Path, help="run directory, or adapter folder")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="of a run: final (default), curr_reft, curr_rl, rl, sft, or of a round, as curr_reft_round_2",
    )
    parser.add_argument("--base", metavar="MODEL", help="folder or hub name of the base, in place of the one noted")


def execute(arguments: argparse.Namespace) -> None:
    from curr_reft.export.merge import merge
    from curr_reft.export.source import RunModel, find_source
    from curr_reft.files import human_size

    source = find_source(arguments.source, arguments.model, arguments.base)
    for path in merge(source, arguments.out):
        show(f"{human_size(path.stat().st_size):>9}  {path.name}")
    show(f"model: {arguments.out}")
    if isinstance(source, RunModel) and source.is_base:
        logger.warning("%s of %s has the weights of the base: no training improved on it", source.name, source.run)
