"""Write the items of a recipe as rows (SPLIT.jsonl) with their images, and a card with counts, balances and leaks."""

import argparse
from pathlib import Path

from curr_reft.commands.common import add_recipe, read_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder to write; must be new or empty")


def execute(arguments: argparse.Namespace) -> None:
    recipe = read_recipe(arguments)
    out: Path = arguments.out
    from curr_reft.errors import UsageError

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"--out {out} is in use; choose another folder or remove it")
    from curr_reft.data.export import export_rows
    from curr_reft.data.frame import BoxFrame
    from curr_reft.data.load import load_data
    from curr_reft.files import write_json
    from curr_reft.prepare import question_style, truth_reader
    from curr_reft.questions.compile import compile_questions
    from curr_reft.questions.forms import FORMS

    data = load_data(recipe.data, truth_reader(recipe))
    _, card = compile_questions(
        data.items,
        FORMS,
        seed=recipe.seed,
        frame=BoxFrame("pixels"),
        style=question_style(recipe),
        options=recipe.questions.options,
    )
    files = export_rows(data.items, out)
    write_json(out / "card.json", {**data.account(), "questions": card.to_dict()})
    for split, path in files.items():
        print(f"{split}: {len(data.split(split))} rows in {path}")
    print(f"card: {out / 'card.json'}")
