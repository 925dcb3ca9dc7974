"""Write the question sets of a recipe (binary, choice, open; one file a split and form), its items as rows, and a
data card with counts, balances, leaks and what was left out."""

import argparse
from pathlib import Path

from curr_reft.commands.common import add_recipe, folder_to_write, read_recipe
from curr_reft.console import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=folder_to_write, required=True, help="folder to write; must be new or empty"
    )
    add_frame(parser)
    parser.add_argument(
        "--copy-images", action="store_true", help="copy image files into DIR/images; default: refer to them"
    )
    parser.add_argument(
        "--token-sample",
        metavar="N",
        type=int,
        default=200,
        help="items of each split whose prompts' tokens are counted; 0: none",
    )


def add_frame(parser: argparse.ArgumentParser) -> None:
    """The flag that makes a command do without the recipe's model."""
    parser.add_argument(
        "--frame",
        choices=("pixels", "thousand", "unit"),
        help="write boxes in this frame of the original image, without loading the recipe's model (pixels: its own "
        "pixels; thousand: 0 to 1000; unit: 0 to 1); default: in the frame of the model",
    )


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    from curr_reft.errors import UsageError

    out: Path = arguments.out
    if arguments.token_sample < 0:
        raise UsageError(f"--token-sample {arguments.token_sample}: must be 0 or more")
    from curr_reft.question_sets import build_question_sets

    card = build_question_sets(
        recipe,
        out,
        frame=arguments.frame,
        copy_images=arguments.copy_images,
        token_sample=arguments.token_sample,
    )
    for name, file in card["files"].items():
        show(f"{file['rows']:>8,} rows  {out / name}")
    show(f"card: {out / 'card.md'}, {out / 'card.json'}")
