"""What ``run.json`` says of a run: when it begins, when it is gone on with, and how it ended.

What it is gone on with by may differ from what began it: budgets that grew (``recipe_changes.py``), other versions,
another number of processes. That is noted, so that reports can tell it, or refused.
"""

import contextlib
import importlib.metadata
import logging
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from curr_reft import __version__, processes, recipe_changes
from curr_reft.errors import CurrReftError, RecipeError, UsageError
from curr_reft.files import read_json, read_jsonl, write_atomic
from curr_reft.planned import StepAlone
from curr_reft.recipe import Recipe, dump_recipe, load_recipe, recipe_sha256
from curr_reft.recipe_changes import Change
from curr_reft.stopping import Stopped

logger = logging.getLogger(__name__)

LOCK, RECIPE, STATE, METRICS, LOG = ".lock", "recipe.yaml", "run.json", "metrics.jsonl", "run.log"
PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "tokenizers",
    "numpy",
    "pillow",
    "math-verify",
    "peft",
)
LAST_PHASE = "report"  # its mark says that nothing is left to do
State = Literal["running", "done", "failed", "interrupted"]


def started(path: Path, recipe: Recipe) -> dict[str, Any]:
    write_atomic(path / RECIPE, dump_recipe(recipe))
    return {
        "format": 1,
        "name": recipe.name,
        "state": "running",
        "seed": recipe.seed,
        "recipe_sha256": recipe_sha256(recipe),
        "versions": _versions(),
        "processes": processes.count(),
        "started": timestamp(),
        "resumed": [],
        "finished": None,
        "phases": {},
    }


def resumed(path: Path, recipe: Recipe, alone: StepAlone | None, warn: bool = True) -> dict[str, Any]:
    """The run in ``path`` as it is gone on with. Nothing is written. Raises UsageError."""
    try:
        run: dict[str, Any] = read_json(path / STATE)
        before = load_recipe(path / RECIPE)  # keys that its version did not know have their defaults
        run["phases"], run["resumed"], run["versions"], run["state"]
    except (OSError, ValueError, RecipeError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} cannot be resumed: {STATE} or {RECIPE} is not readable ({error}); "
            "put it back as it was, or choose another --output"
        ) from error
    _require_command(path, run, alone)
    changes = recipe_changes.changes(before, recipe)
    if changes:
        run = _extended(path, run, before, recipe, changes, extendable=alone is None)
    changed = [
        f"{name} {run['versions'].get(name)} -> {version}"
        for name, version in _versions().items()
        if run["versions"].get(name) != version
    ]
    if changed and warn:
        logger.warning(
            "resuming with other versions (%s): the result may differ from an unbroken run", ", ".join(changed)
        )
    if is_finished(run):
        return run
    before_count, count = run.get("processes", 1), processes.count()
    if before_count != count:
        if warn:
            logger.warning(
                "resuming with another number of processes (%d -> %d): the result may differ from an unbroken run by "
                "rounding",
                before_count,
                count,
            )
        changed.append(f"processes {before_count} -> {count}")
    run["processes"] = count
    run.pop("ended_by", None)
    gone_on = {**run, "state": "running", "finished": None, "resumed": [*run["resumed"], timestamp()]}
    noted = run.get("resumed_with", [])
    if changed and (not noted or noted[-1]["changes"] != changed):
        gone_on["resumed_with"] = [*noted, {"at": timestamp(), "changes": changed}]
    return gone_on


def alone_of(run: Mapping[str, Any]) -> StepAlone | None:
    """The step that made the directory by itself; None: a whole run did, or an earlier version."""
    return StepAlone(**run["alone"]) if "alone" in run else None


def _require_command(path: Path, run: Mapping[str, Any], alone: StepAlone | None) -> None:
    """A step by itself and a whole run do not go on with each other's directories."""
    stored = alone_of(run)
    if stored is not None and (alone is None or alone.command != stored.command):
        raise UsageError(
            f"{path} is the directory of curr-reft {stored.command}, which made one step by itself; "
            "go on with that command, or choose another --output"
        )
    if stored is None and alone is not None and not run["phases"].keys() <= alone.trainings.keys():
        raise UsageError(f"{path} is the directory of a whole run; choose another --out for curr-reft {alone.command}")


def _extended(
    path: Path, run: dict[str, Any], before: Recipe, now: Recipe, changes: Sequence[Change], extendable: bool
) -> dict[str, Any]:
    """``run`` with budgets that grew, noted, and no longer finished. Raises UsageError for any other difference."""
    lines = [str(change) for change in changes]
    if not (path / METRICS).is_file() and any(path.rglob("checkpoints/step-*")):
        raise UsageError(
            f"{path / METRICS} is not there, and it says how far the trainings are: without it the run goes on by its "
            f"stored recipe ({path / RECIPE}) alone; put the file back, or give that recipe to --resume"
        )
    reasons = recipe_changes.refusals(before, now, run["phases"], _last_steps(path / METRICS))
    if reasons or not extendable:
        why = "".join(f"  {reason}\n" for reason in reasons if reason not in lines)
        raise UsageError(
            f"{path} was made by another recipe (stored -> given):\n  " + "\n  ".join(lines) + "\n" + why +
            f"Give the stored one ({path / RECIPE}) to --resume, or choose another --output"
        )  # fmt: skip
    noted = run.get("extended", [])
    if not noted or noted[-1]["changes"] != lines:  # the same again: killed before the recipe was stored
        noted = [*noted, {"at": timestamp(), "changes": lines, "after": sum(_last_steps(path / METRICS).values())}]
    phases = {name: record for name, record in run["phases"].items() if name != LAST_PHASE}
    return {**run, "phases": phases, "recipe_sha256": recipe_sha256(now), "extended": noted}


def _last_steps(metrics: Path) -> dict[str, int]:
    """Training -> its last update."""
    rows = read_jsonl(metrics) if metrics.is_file() else []
    return {f"{row['run']}/{row['stage']}": int(row["step"]) for row in rows if row["kind"] == "train"}


def is_finished(run: Mapping[str, Any]) -> bool:
    return bool(run["state"] == "done" and LAST_PHASE in run["phases"])


def reason_of(error: BaseException | None) -> str:
    """What ended a run, in a line. Of errors that are not ours the kind alone: nobody vouches for what they quote."""
    if isinstance(error, Stopped):
        return f"{error} (exit code {error.exit_code})"
    first = str(error).strip().partition("\n")[0] if isinstance(error, CurrReftError) else ""
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _versions() -> dict[str, str]:
    """Versions from the packages' metadata: nothing is imported for them."""
    found = {"curr_reft": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
