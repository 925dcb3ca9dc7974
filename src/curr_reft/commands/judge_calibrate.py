"""Measure how far a judge can be trusted, on answers whose truth is known: a JSONL file with "prompt", "completion" and
"correct" (true or false) or "score" (0 to 100), or the verified candidates of a run.

Every row is judged --repeats times, once more with sentences that say nothing, and once more with the criteria in
reverse order; what is in the cache is not asked again. Writes calibration.json and calibration.md to --out.
"""

import argparse
from functools import partial
from pathlib import Path

from curr_reft.commands.common import folder_to_write
from curr_reft.commands.judge import source_and_recipe
from curr_reft.errors import UsageError
from curr_reft.launch import joined
from curr_reft.processes import on_main


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", type=Path, help="JSONL file with labels, or run directory")
    parser.add_argument(
        "--recipe", metavar="RECIPE", help="recipe with the section self_improvement; default: that of the run"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=folder_to_write, required=True, help="folder for the result and the cache"
    )
    parser.add_argument("--items", metavar="N", type=int, help="judge N of the rows, drawn by the seed; default: all")
    parser.add_argument("--repeats", metavar="K", type=int, default=3, help="times each row is judged (default 3)")
    parser.add_argument(
        "--precision",
        metavar="SHARE",
        type=float,
        default=0.95,
        help="share of right answers that the recommended threshold must be sure to keep (default 0.95)",
    )


def execute(arguments: argparse.Namespace) -> None:
    for flag, least in (("items", 1), ("repeats", 1)):
        value = getattr(arguments, flag)
        if value is not None and value < least:
            raise UsageError(f"--{flag} {value}: must be at least {least}")
    if not 0 < arguments.precision < 1:
        raise UsageError(f"--precision {arguments.precision}: must be between 0 and 1, as 0.95")
    with joined():
        on_main(partial(_calibrate, arguments))


def _calibrate(arguments: argparse.Namespace) -> None:
    source, recipe = source_and_recipe(arguments)
    from curr_reft.console import Console, show
    from curr_reft.files import write_atomic, write_json
    from curr_reft.improve.judges import Workplace, require_judge
    from curr_reft.judging.calibrate import Plan, calibrate
    from curr_reft.judging.page import calibration_page
    from curr_reft.judging.source import improvement_of, labelled
    from curr_reft.seeding import stream

    config = improvement_of(recipe)
    require_judge(config.judge)
    rows = labelled(source, recipe)
    if arguments.items is not None and arguments.items < len(rows):
        rows = stream(recipe.seed, "calibrate").sample(rows, arguments.items)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    cache = Path(config.judge.cache) if config.judge.cache else out / "verdicts.sqlite"
    plan = Plan(threshold=config.threshold, precision=arguments.precision, repeats=arguments.repeats, seed=recipe.seed)
    found = calibrate(config.judge, rows, Workplace(cache=cache, say=Console().say), plan)
    write_json(out / "calibration.json", found)
    page = calibration_page(found, source.name)
    write_atomic(out / "calibration.md", page)
    show(page)
