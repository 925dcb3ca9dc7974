"""What a run is doing, read from its directory alone, while it runs too: ``curr-reft status``.

Nothing is written and the lock is not taken, so a run never notices that it is looked at. What a run replaces or prunes
in that moment is there as it was before or as it is after. Nothing heavy is imported.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from curr_reft.errors import RecipeError, UsageError
from curr_reft.files import read_json, read_jsonl
from curr_reft.planned import planned_phases
from curr_reft.recipe import Recipe, load_recipe
from curr_reft.run_history import Changed, Faults, extensions, faults_of, surroundings, unchanged_models
from curr_reft.run_lock import began_ticks, is_copied
from curr_reft.run_plan import Training, plan, with_speed
from curr_reft.run_record import LAST_PHASE, LOCK, METRICS, RECIPE, STATE, alone_of

CHECKPOINTS = ("stages/*", "baselines/*", "self-improve", "rounds/*/*", "sft")

Owner = Literal["alive", "dead", "elsewhere", "none"]


@dataclass(frozen=True, kw_only=True)
class Save:
    """The newest checkpoint of the run."""

    stage: str
    step: int
    at: str  # ISO 8601, UTC
    seconds_ago: float


@dataclass(frozen=True, kw_only=True)
class Status:
    """All that ``curr-reft status`` tells."""

    name: str
    alone: str | None  # the command that makes one step by itself here; none: a whole run
    state: str  # of run.json: running, done, failed, interrupted
    ended_by: str | None  # the error that ended it; none: it works, is done, or was ended from outside
    owner: Owner
    owner_name: str | None  # process and host, of an owner that is named
    phase: str  # what is being done, or comes next
    trainings: tuple[Training, ...]
    last_save: Save | None
    seconds: float  # of work, up to the last save
    seconds_left: float | None  # updates of all trainings; none where the speed of one is not known yet
    resumed: int
    extended: list[Changed]  # budgets that grew when it was resumed
    resumed_with: list[Changed]  # other versions, or another number of processes
    unchanged: tuple[str, ...]  # sentences on models of a finished run that are the base, or another model
    faults: Faults


def read_status(path: Path) -> Status:
    """The state of the run in ``path``. Raises UsageError for a folder that is no run, DataError."""
    run = _run_of(path)
    alone = alone_of(run)
    rows = read_jsonl(path / METRICS) if (path / METRICS).is_file() else []
    steps = [row for row in rows if row.get("kind") == "train"]
    made = {(row["run"], row["stage"]): int(row["step"]) for row in steps}
    if alone is not None:
        phase, planned = plan(alone.phases(), run["phases"], made, last=None)
    else:
        phase, planned = plan(planned_phases(_recipe(path / RECIPE)), run["phases"], made, last=LAST_PHASE)
    trainings = tuple(with_speed(planned, steps))
    left = [each.seconds_left for each in trainings if each.state in ("now", "waiting")]
    owner, owner_name = owner_of(path / LOCK)
    return Status(
        name=run["name"],
        alone=alone.command if alone is not None else None,
        state=run["state"],
        ended_by=run.get("ended_by"),
        owner=owner,
        owner_name=owner_name,
        phase=phase,
        trainings=trainings,
        last_save=_last_save(path, list(run.get("files", {}))),
        seconds=float(run.get("seconds", 0.0)),
        seconds_left=None if None in left else sum(each for each in left if each is not None),
        resumed=len(run["resumed"]),
        extended=extensions(run),
        resumed_with=surroundings(run),
        unchanged=tuple(unchanged_models(path).lines()) if run["state"] == "done" and alone is None else (),
        faults=faults_of(steps, read_json(card) if (card := path / "data" / "card.json").is_file() else None),
    )


def owner_of(lock: Path) -> tuple[Owner, str | None]:
    """Who holds the run by the name in its lock file, and whether that process lives, as far as this host can tell.

    The name goes with the run that ends by itself, and stays with one that is killed. A process that got the number of
    a dead one began at another time.
    """
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
        host, process = str(holder["host"]), int(holder["process"])
        if is_copied(holder, lock.parent):  # the process works elsewhere
            return "none", None
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # no run, given back, or its name is being written
        return "none", None
    name = f"process {process} on {host}"
    if host != socket.gethostname():
        return "elsewhere", name
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "dead", name
    except PermissionError:  # it lives, and is somebody else's
        pass
    return ("alive" if _is_same(process, holder.get("began")) else "dead"), name


def _is_same(process: int, began: Any) -> bool:
    """Whether ``process`` lives and is the one that began at ``began``, in ticks since the machine did: no clock that
    somebody sets is asked. Systems that do not say when a process began are taken at their word that it lives."""
    now = began_ticks(process)
    if now is None:
        return began_ticks(os.getpid()) is None
    return began is None or began == now


def _recipe(path: Path) -> Recipe:
    try:
        return load_recipe(path)  # keys that the version of the run did not know have their defaults
    except (RecipeError, OSError) as error:
        raise UsageError(
            f"{path} is not a recipe that this version can read ({error}); use the one it ran with"
        ) from error


def _run_of(path: Path) -> dict[str, Any]:
    way = "give the directory that a run was started with (--output)"
    if not path.is_dir():
        raise UsageError(f"{path} {'is a file' if path.exists() else 'does not exist'}; {way}")
    if not (path / STATE).is_file():
        if any((path / name).exists() for name in ("candidates", "candidates.parquet")):
            way = "it holds what sample, judge and select leave, which are repeated to go on, and say what is done"
        raise UsageError(f"{path} is not the directory of a run: it holds no {STATE}; {way}")
    try:
        run: dict[str, Any] = read_json(path / STATE)
        run["name"], run["state"], run["phases"].keys(), len(run["resumed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path / STATE} is not readable ({error!r}); it is written whole by a run") from error
    return run


def _last_save(path: Path, listed: Sequence[str]) -> Save | None:
    """The newest checkpoint, by the order of the run and not by clocks: of the training that is not published yet, else
    of the one published last. ``listed``: names of files in the order in which the run noted them."""
    order = {name: place for place, name in enumerate(listed)}
    found: list[tuple[int, int, float, str]] = []
    for folder in CHECKPOINTS:
        # Not the manifest, which is written again when a training is over.
        for state in path.glob(f"{folder}/checkpoints/step-*/state.json"):
            stage = state.parents[2].relative_to(path).as_posix()
            place = order.get(f"{stage}/manifest.json", len(order))
            with contextlib.suppress(FileNotFoundError):  # pruned since it was listed
                found.append((place, int(state.parent.name.removeprefix("step-")), state.stat().st_mtime, stage))
    if not found:
        return None
    _, step, at, stage = max(found)
    return Save(
        stage=stage,
        step=step,
        at=datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
        seconds_ago=round(max(0.0, time.time() - at), 1),
    )
