"""What a run is doing: its stage and step, the last save, speed, time left, faults counted. It may be running.

Reads the run's directory and changes nothing in it. The time left is that of the updates alone.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from curr_reft.console import show
from curr_reft.escaping import visible_json

if TYPE_CHECKING:
    from curr_reft.run_history import Changed
    from curr_reft.run_plan import Training
    from curr_reft.status import Status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the directory of a run")
    parser.add_argument("--json", action="store_true", help="the same as one JSON object, for programs")


def execute(arguments: argparse.Namespace) -> None:
    from curr_reft.status import read_status

    status = read_status(arguments.run_dir)
    if arguments.json:
        import json
        from dataclasses import asdict

        show(visible_json(json.dumps(asdict(status), indent=2, ensure_ascii=False)))
        return
    show(*_lines(status, arguments.run_dir))


def _lines(status: "Status", folder: Path) -> list[str]:
    save, faults = status.last_save, status.faults
    skipped = "not read yet" if faults.bad_rows_skipped is None else faults.bad_rows_skipped
    saved = (
        "none yet" if save is None else f"step {save.step} of {save.stage}, {_time(save.seconds_ago)} ago ({save.at})"
    )
    return [
        f"run        {status.name} in {folder}" + (f", curr-reft {status.alone} alone" if status.alone else ""),
        f"state      {_state(status)}",
        *([f"ended by   {status.ended_by}"] if status.ended_by else []),
        *(f"unchanged  {line}" for line in status.unchanged),
        f"phase      {status.phase}",
        *(f"training   {_training(each)}" for each in status.trainings),
        f"last save  {saved}",
        f"time       {_time(status.seconds)} of work up to the last save, resumed {status.resumed} times",
        *(f"extended   {_changed(each)}" for each in status.extended),
        *(f"went on    {_changed(each)}: not to the last digit an unbroken run" for each in status.resumed_with),
        f"time left  {_left(status)}",
        f"faults     failed gradings {faults.failed_gradings}, timed-out gradings {faults.timed_out_gradings}, "
        f"failed custom rewards {faults.failed_rewards}, out of memory {faults.out_of_memory}, "
        f"non-finite steps {faults.non_finite}, bad rows skipped {skipped}",
    ]


def _state(status: "Status") -> str:
    who = {
        "alive": f"{status.owner_name}, alive",
        "dead": f"{status.owner_name} is dead; go on with --resume",
        "elsewhere": f"{status.owner_name}, another host: whether it lives is not known here",
        "none": "held by no process",
    }[status.owner]
    way = "; go on with --resume" if status.owner == "none" and status.state != "done" else ""
    state = "cut off" if status.state == "running" and status.owner in ("dead", "none") else status.state
    return f"{state} ({who}{way})"


def _training(each: "Training") -> str:
    name = each.run if each.run == each.stage else f"{each.run} {each.stage}"
    text = f"{name:32} {each.state:8} step {each.step} of {each.budget}"
    if each.seconds_per_step is not None:
        text += f", {each.seconds_per_step:.2f} s a step, {each.tokens_per_second:.0f} tokens/s"
    return text if each.state != "now" or each.seconds_left is None else f"{text}, {_time(each.seconds_left)} left"


def _changed(each: "Changed") -> str:
    after = "" if each.after is None else f" after {each.after} updates"
    return f"at {each.at}{after}: {', '.join(each.changes)}"


def _left(status: "Status") -> str:
    if status.seconds_left is not None:
        return f"{_time(status.seconds_left)} for updates; validation, saving and evaluation come on top"
    waiting = [f"{each.run} {each.stage}" for each in status.trainings if each.seconds_left is None]
    return f"not known before the first step of {', '.join(waiting)}"


def _time(seconds: float) -> str:
    minutes, hours = seconds / 60, seconds / 3600
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes:.0f} min" if minutes < 120 else f"{hours:.1f} h"
