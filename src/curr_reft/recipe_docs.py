"""Writes what follows from the schema:

    python -m curr_reft.recipe_docs docs/recipes.md tests/recipe_keys.txt docs/troubleshooting.md

The first gets the tables of all keys, the second the frozen list of them: its diff shows what changes for users. The
third, which may be left out, gets the table of names that other tools have for keys.
"""

import sys
from pathlib import Path

from curr_reft.recipe import Recipe
from curr_reft.recipe_schema import keys, other_tools_table, reference

MARK = "<!-- below: written by python -m curr_reft.recipe_docs -->\n"


TABLE, END = "<!-- table: other tools -->\n", "<!-- end -->\n"


def main(document: Path, frozen: Path, troubleshooting: Path | None = None) -> None:
    """Replace what follows the mark in the Markdown file ``document``, the whole of ``frozen``, and the table in
    ``troubleshooting``."""
    prose, mark, _ = document.read_text(encoding="utf-8").partition(MARK)
    document.write_text(f"{prose}{mark or MARK}\n{reference(Recipe)}", encoding="utf-8")
    frozen.write_text("".join(f"{info.path}\n" for info in keys(Recipe)), encoding="utf-8")
    if troubleshooting is not None:
        before, _, rest = troubleshooting.read_text(encoding="utf-8").partition(TABLE)
        after = rest.partition(END)[2]
        troubleshooting.write_text(f"{before}{TABLE}\n{other_tools_table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
