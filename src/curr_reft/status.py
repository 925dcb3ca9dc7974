"""What a run is doing, read from its directory alone, while it runs too: ``curr-reft status``.

Nothing is written and the lock is not taken, so a run never notices that it is looked at. What a run replaces or prunes
in that moment is there as it was before or as it is after. Nothing heavy is imported.
"""

import contextlib
import json
import os
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from curr_reft.errors import UsageError
from curr_reft.files import read_json, read_jsonl
from curr_reft.run_dir import LOCK, METRICS, RECIPE, STATE
from curr_reft.run_plan import Training, plan, read_plan, with_speed

CHECKPOINTS = ("stages/*", "baselines/*", "self-improve", "rounds/*/*")
CLOCK_SLACK = 5.0  # seconds by which the clocks of the system and of a file system may differ

Owner = Literal["alive", "dead", "elsewhere", "none"]


@dataclass(frozen=True, kw_only=True)
class Save:
    """The newest checkpoint of the run."""

    stage: str
    step: int
    at: str  # ISO 8601, UTC
    seconds_ago: float


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What the run survived, counted over the steps that stand in the metrics."""

    failed_gradings: int  # completions without a score: a grader or a custom reward broke down
    timed_out_gradings: int
    failed_rewards: int  # breakdowns of custom rewards; those that are paid are failed gradings too
    out_of_memory: int  # back-offs to smaller micro-batches
    non_finite: int  # steps whose loss or gradient was not finite
    bad_rows_skipped: int | None  # none: the data is not read yet


@dataclass(frozen=True, kw_only=True)
class Status:
    """All that ``curr-reft status`` tells."""

    name: str
    state: str  # of run.json: running, done, failed, interrupted
    owner: Owner
    owner_name: str | None  # process and host, of an owner that is named
    phase: str  # what is being done, or comes next
    trainings: tuple[Training, ...]
    last_save: Save | None
    seconds: float  # of work, up to the last save
    seconds_left: float | None  # updates of all trainings; none where the speed of one is not known yet
    resumed: int
    faults: Faults


def read_status(path: Path) -> Status:
    """The state of the run in ``path``. Raises UsageError for a folder that is no run, DataError."""
    run = _run_of(path)
    recipe = read_plan(path / RECIPE)
    rows = read_jsonl(path / METRICS) if (path / METRICS).is_file() else []
    steps = [row for row in rows if row.get("kind") == "train"]
    phase, planned = plan(recipe, run["phases"], {(row["run"], row["stage"]): int(row["step"]) for row in steps})
    trainings = tuple(with_speed(planned, steps))
    left = [each.seconds_left for each in trainings if each.state in ("now", "waiting")]
    owner, owner_name = owner_of(path / LOCK)
    return Status(
        name=run["name"],
        state=run["state"],
        owner=owner,
        owner_name=owner_name,
        phase=phase,
        trainings=trainings,
        last_save=_last_save(path),
        seconds=float(run.get("seconds", 0.0)),
        seconds_left=None if None in left else sum(each for each in left if each is not None),
        resumed=len(run["resumed"]),
        faults=_faults(steps, path / "data" / "card.json"),
    )


def owner_of(lock: Path) -> tuple[Owner, str | None]:
    """Who holds the run by the name in its lock file, and whether that process lives, as far as this host can tell.

    The name goes with the run that ends by itself, and stays with one that is killed. A process that got the number of
    a dead one began after the name was written.
    """
    try:
        written = lock.stat().st_mtime
        holder = json.loads(lock.read_text(encoding="utf-8"))
        host, process = str(holder["host"]), int(holder["process"])
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
    began = _began(process)
    return ("dead" if began is not None and began > written + CLOCK_SLACK else "alive"), name


def _began(process: int) -> float | None:
    """When ``process`` began, in seconds since 1970; infinity of one that ended and is not collected yet; None where
    the system does not say (not Linux)."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        (booted,) = [line.split()[1] for line in Path("/proc/stat").read_text().splitlines() if line[:5] == "btime"]
    except (OSError, ValueError):
        return None
    if after_name[0] in "ZX":
        return float("inf")
    return int(booted) + int(after_name[19]) / os.sysconf("SC_CLK_TCK")


def _run_of(path: Path) -> dict[str, Any]:
    way = "give the directory that a run was started with (--output)"
    if not path.is_dir():
        raise UsageError(f"{path} {'is a file' if path.exists() else 'does not exist'}; {way}")
    if not (path / STATE).is_file():
        raise UsageError(f"{path} is not the directory of a run: it holds no {STATE}; {way}")
    try:
        run: dict[str, Any] = read_json(path / STATE)
        run["name"], run["state"], run["phases"].keys(), len(run["resumed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path / STATE} is not readable ({error!r}); it is written whole by a run") from error
    return run


def _last_save(path: Path) -> Save | None:
    found: list[tuple[float, str, int]] = []
    for folder in CHECKPOINTS:
        # Not the manifest, which is written again when a training is over.
        for state in path.glob(f"{folder}/checkpoints/step-*/state.json"):
            step = int(state.parent.name.removeprefix("step-"))
            stage = state.parents[2].relative_to(path).as_posix()
            with contextlib.suppress(FileNotFoundError):  # pruned since it was listed
                found.append((state.stat().st_mtime, stage, step))
    if not found:
        return None
    at, stage, step = max(found)
    return Save(
        stage=stage,
        step=step,
        at=datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
        seconds_ago=round(max(0.0, time.time() - at), 1),
    )


def _faults(steps: list[dict[str, Any]], card: Path) -> Faults:
    # Of a step that was resampled, those of every round: what was replaced could not be graded either.
    graded = [(row.get("resample") or row).get("statuses", {}) for row in steps]
    parts = [part for row in steps for part in (row.get("parts") or {}).values()]
    return Faults(
        failed_gradings=sum(statuses.get("grader_failed", 0) for statuses in graded),
        timed_out_gradings=sum(statuses.get("timed_out", 0) for statuses in graded),
        failed_rewards=sum(part.get("failed", 0) for part in parts),
        out_of_memory=sum(int(row.get("out_of_memory", 0)) for row in steps),
        non_finite=sum(row.get("loss", 0.0) is None or row.get("grad_norm", 0.0) is None for row in steps),
        bad_rows_skipped=int(read_json(card)["skipped_rows"]) if card.is_file() else None,
    )
