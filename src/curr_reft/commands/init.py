"""Write a first recipe for your own data: looks at the rows, says what they are and why, and chooses settings that fit
in memory. Asks for what it cannot tell; where nobody is there to be asked, the flags say it. Nothing is overwritten."""

import argparse
import sys
from pathlib import Path

from curr_reft.commands.check import add_gpu_memory
from curr_reft.commands.common import file_to_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="PATH", help="file or folder with rows to train on")
    parser.add_argument("--test", metavar="PATH", type=Path, help="rows to test on; default: a tenth of --data")
    parser.add_argument("--format", metavar="NAME", help="layout of the rows, a name of docs/datasets.md")
    parser.add_argument("--task", metavar="NAME", help="detection, classification, math, dense_detection, ...")
    parser.add_argument(
        "--column",
        metavar="OURS=NAME",
        action="append",
        default=[],
        help="which column holds question, answer, image, task, domain, distractors or category; a box of four "
        "columns: answer=xmin,ymin,xmax,ymax",
    )
    parser.add_argument(
        "--option", metavar="KEY=VALUE", action="append", default=[], help="of the format: question, split, ..."
    )
    parser.add_argument("--image-root", metavar="DIR", type=Path, help="folder that image paths are relative to")
    parser.add_argument("--boxes", choices=("pixels", "thousand", "unit"), help="what boxes are given in")
    parser.add_argument(
        "--box-format",
        choices=("xyxy", "xywh", "cxcywh"),
        help="what the four numbers of a box are: two corners; x, y, width, height; centre, width, height",
    )
    parser.add_argument("--model", metavar="PATH", help="a folder, a hub name, or embedded")
    add_gpu_memory(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=file_to_write, help="the recipe to write; default: named after the data"
    )


def execute(arguments: argparse.Namespace) -> None:
    from curr_reft.init.choices import Choices
    from curr_reft.init.init import Wanted, init

    wanted = Wanted(
        data=arguments.data,
        test=arguments.test,
        format=arguments.format,
        task=arguments.task,
        columns=_pairs("--column", arguments.column),
        options=_pairs("--option", arguments.option),
        image_root=arguments.image_root,
        boxes=arguments.boxes,
        box_format=arguments.box_format,
        model=arguments.model,
        gpu_memory=arguments.gpu_memory,
        out=arguments.out,
    )
    init(wanted, Choices(ask=input if sys.stdin.isatty() else None))


def _pairs(flag: str, words: list[str]) -> dict[str, str]:
    from curr_reft.errors import UsageError

    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise UsageError(f"{flag} {word!r}: give NAME=VALUE")
        pairs[key] = value
    return pairs
