"""Writes what follows from the schema: python -m curr_reft.recipe_docs docs/recipes.md tests/recipe_keys.txt

The first gets the tables of all keys, the second the frozen list of them: its diff shows what changes for users.
"""

import sys
from pathlib import Path

from curr_reft.recipe import Recipe
from curr_reft.recipe_schema import keys, reference

MARK = "<!-- below: written by python -m curr_reft.recipe_docs -->\n"


def main(document: Path, frozen: Path) -> None:
    """Replace what follows the mark in the Markdown file ``document``, and the whole of ``frozen``."""
    prose, mark, _ = document.read_text(encoding="utf-8").partition(MARK)
    document.write_text(f"{prose}{mark or MARK}\n{reference(Recipe)}", encoding="utf-8")
    frozen.write_text("".join(f"{info.path}\n" for info in keys(Recipe)), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
