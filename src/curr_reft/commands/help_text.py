"""What ``--help`` and ``--keys`` print: paragraphs at the width of the terminal, tables and examples as they stand."""

import argparse
import shutil
import textwrap

from curr_reft.console import show
from curr_reft.errors import UsageError

EXIT_CODES = """Exit codes: 0 done, 1 failed, 2 refused input or use, 3 no space; stopped by a signal: 143
SIGTERM, 130 Ctrl-C, 129 a closed terminal (no finished step of a run is lost, --resume continues it)."""

OUTPUT = """Every command takes -v (details) and -q (errors and the final result only). NO_COLOR is honoured."""

KEYS = """Every key of the recipe is a flag too, with a YAML value: --rl.optimizer.lr 2e-6. --keys lists them, and
--keys rl.optimizer those below one."""

WIDEST = 120  # columns of a line of prose, however wide the terminal is


class HelpText(argparse.RawDescriptionHelpFormatter):
    """Fills paragraphs of descriptions and epilogs; one with an indented line is a table and stays."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(_filled(paragraph, width, indent) for paragraph in text.split("\n\n"))


def _filled(paragraph: str, width: int, indent: str) -> str:
    if any(line.startswith("  ") for line in paragraph.splitlines()):
        return paragraph
    return textwrap.fill(
        " ".join(paragraph.split()), min(width, WIDEST), initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


class ListKeys(argparse.Action):
    """``--keys [PART]``: the keys of the recipe, read off the schema, and nothing else is done."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        show(keys_text(str(values or "")))
        parser.exit()


def keys_text(part: str) -> str:
    """The keys below ``part`` (all, where it is empty), each with its rule and meaning. Raises UsageError."""
    from curr_reft.recipe import Recipe
    from curr_reft.recipe_schema import flags, suggestion

    found = list(flags(Recipe, part))
    if not found:
        wrong: tuple[str | int, ...] = tuple(part.split("."))
        raise UsageError(f"--keys {part}: no key is called so; {suggestion(Recipe, wrong)}")
    width = min(shutil.get_terminal_size().columns, WIDEST)
    lines = ["Keys of the recipe, each as a flag (values are YAML; N is a place in a list, from 0; NAME is yours):"]
    for name, rule, description in found:
        lines.append(f"  {name} ({rule})")
        lines.append(textwrap.indent(textwrap.fill(description, width - 6, break_on_hyphens=False), "      "))
    return "\n".join(lines)
