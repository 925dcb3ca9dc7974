"""Judge answers that are there: of a run directory, of a folder that sample wrote, or of a JSONL file with "prompt" and
"completion" (and "images", "id", "domain") in every row.

Writes verdicts.jsonl and judge.json beside the candidates, or to --out. What is in the cache of verdicts is not asked
again, so a command that was cut off, or ran out of its budget, goes on when it is repeated.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from curr_reft.commands.common import folder_to_write, read_recipe
from curr_reft.launch import joined
from curr_reft.processes import on_main

if TYPE_CHECKING:
    from curr_reft.judging.source import Source
    from curr_reft.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", type=Path, help="run directory, folder of candidates, or JSONL file"
    )
    parser.add_argument(
        "--recipe", metavar="RECIPE", help="recipe with the section self_improvement; default: that of the run"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=folder_to_write, help="folder for the verdicts; default: beside the candidates"
    )
    parser.add_argument("--retry-failed", action="store_true", help="ask again where the cache holds a failure")


def execute(arguments: argparse.Namespace) -> None:
    with joined():  # one judge is enough: what several processes paid for would be the same
        on_main(partial(_judge, arguments))


def _judge(arguments: argparse.Namespace) -> None:
    source, recipe = source_and_recipe(arguments)
    from curr_reft.console import Console
    from curr_reft.errors import UsageError
    from curr_reft.files import write_json, write_jsonl
    from curr_reft.improve.judges import Workplace, judge_all, require_judge, require_verdicts
    from curr_reft.improve.phase import ACCOUNT, JUDGE, VERDICTS, cache_of
    from curr_reft.judging.source import answers, improvement_of

    config = improvement_of(recipe).judge
    require_judge(config)
    out: Path = arguments.out or source.folder
    if (out / ACCOUNT).is_file():
        raise UsageError(
            f"{out} holds an account of what was selected by earlier verdicts; give another folder with --out, or "
            f"remove {out / ACCOUNT} to judge and select anew"
        )
    if source.is_rows and arguments.out is None:
        raise UsageError(f"{source.path} is a file: say with --out in which folder the verdicts belong")
    candidates, before = answers(source, recipe)
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    cache = cache_of(config, out)
    place = Workplace(cache=cache, say=console.say, before=before, retry_failed=arguments.retry_failed)
    judged = judge_all(config, candidates, place)
    write_jsonl(out / VERDICTS, (verdict.to_dict() for verdict in judged.verdicts))
    write_json(out / JUDGE, judged.account)
    failed = len(judged.verdicts) - judged.account["verdicts"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in judged.account["failures"].items())
    console.result(
        f"{judged.account['verdicts']} verdicts, {failed} without{f' ({reasons})' if reasons else ''}: {out / VERDICTS}"
        + ("; --retry-failed asks for those again" if failed and config.kind in ("endpoint", "local") else "")
    )
    require_verdicts(judged)


def source_and_recipe(arguments: argparse.Namespace) -> "tuple[Source, Recipe]":
    """What is to be judged, and the recipe that says by whom: the one given, refused at once where it is wrong, or the
    run's own. Raises UsageError, RecipeError."""
    given = read_recipe(arguments) if arguments.recipe else None
    from curr_reft.judging.source import find_source, recipe_of

    source = find_source(arguments.source)
    if given is not None:
        return source, given
    arguments.recipe = str(recipe_of(source))
    return source, read_recipe(arguments)
