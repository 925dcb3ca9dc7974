"""Write report.html of a run again from what its directory holds."""

import argparse
from pathlib import Path

from curr_reft.console import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the directory of a run")


def execute(arguments: argparse.Namespace) -> None:
    from curr_reft.errors import UsageError
    from curr_reft.run_record import STATE, require_intact

    if not (arguments.run_dir / STATE).is_file():
        raise UsageError(f"{arguments.run_dir} is not the directory of a run: it holds no {STATE}")
    require_intact(arguments.run_dir)
    from curr_reft.report.build import build_report

    show(build_report(arguments.run_dir))
