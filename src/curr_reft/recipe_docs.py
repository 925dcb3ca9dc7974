"""Writes the tables of docs/recipes.md again from the schema: python -m curr_reft.recipe_docs docs/recipes.md."""

import sys
from pathlib import Path

from curr_reft.recipe import Recipe
from curr_reft.recipe_schema import reference

MARK = "<!-- below: written by python -m curr_reft.recipe_docs -->\n"


def main(path: Path) -> None:
    """Replace what follows the mark in the Markdown file ``path``."""
    prose, mark, _ = path.read_text(encoding="utf-8").partition(MARK)
    path.write_text(f"{prose}{mark or MARK}\n{reference(Recipe)}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
