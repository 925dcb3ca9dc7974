"""The folder of a run: what is finished, its metrics (``run_record.py``: what made it); one process at a time
(``run_lock.py``).

What a phase does, and the files inside its folder, are not known here.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from curr_reft import console, processes, recipe_source
from curr_reft.errors import CurrReftError, RecipeError, UsageError
from curr_reft.files import (
    NO_SPACE,
    append_jsonl,
    read_json,
    read_jsonl,
    remove_leftovers,
    sync_file,
    write_atomic,
    write_json,
    write_jsonl,
)
from curr_reft.planned import StepAlone
from curr_reft.recipe import Recipe, dump_recipe
from curr_reft.run_lock import Lock, living_owner
from curr_reft.run_record import (
    LOCK,
    LOG,
    METRICS,
    RECIPE,
    STATE,
    State,
    is_finished,
    reason_of,
    resumed,
    started,
    timestamp,
)
from curr_reft.stopping import Stopped


@dataclass
class RunDir:
    """An open run directory. Use it in a ``with`` block, or ``close`` it; the lock goes with it."""

    path: Path
    run: dict[str, Any]  # the content of run.json
    _lock: "Lock | None" = field(repr=False)  # none: another process of this run holds it and does all the writing

    @classmethod
    def open(cls, path: Path, recipe: Recipe, resume: bool = False, alone: StepAlone | None = None) -> "RunDir":
        """Take the directory ``path`` for ``recipe``: a new one, or with ``resume`` the one of an earlier run, whose
        budgets may have grown (``recipe_changes.py``); not those of a step that is carried out ``alone``.

        Of several processes the main one takes it; what the others are asked to write they only know.

        A run that was killed before it had a ``run.json``, and a directory that does not exist, start from the
        beginning with ``resume`` too, so that one command can be repeated until it is through.
        Raises UsageError: held by another process, used, not a run directory, made by another recipe.
        """
        path = Path(path)
        taken: list[RunDir] = []

        def take() -> dict[str, Any]:
            taken.append(cls._take(path, recipe, resume, alone))
            return taken[0].run

        run = processes.on_main(take)
        return taken[0] if taken else cls(path=path, run=run, _lock=None)

    @classmethod
    def _take(cls, path: Path, recipe: Recipe, resume: bool, alone: StepAlone | None) -> "RunDir":
        if path.exists() and not path.is_dir():
            raise UsageError(f"output {path} is a file; choose another --output")
        with _refusing_no_access(path):
            if not (path / LOCK).exists():
                _require_usable(path, resume)  # before the first write into a folder that may not be ours
                _require_no_owner(path)
            path.mkdir(parents=True, exist_ok=True)
            lock = Lock.take(path / LOCK)
        try:
            _require_usable(path, resume)
            remove_leftovers(path)
            run = resumed(path, recipe, alone) if (path / STATE).is_file() else started(path, recipe)
            if alone is not None:
                run["alone"] = asdict(alone)
            run["owner"] = lock.owner
            if not is_finished(run):
                console.open_log(path / LOG, lock.is_held)
                write_json(path / STATE, run)  # before the recipe: one that says "finished" would end an extended run
                _store(path / RECIPE, recipe)
            return cls(path=path, run=run, _lock=lock)
        except BaseException:
            console.close_log()
            lock.release()
            raise

    @staticmethod
    def require_free(path: Path, recipe: Recipe, resume: bool = False) -> None:
        """Raise what ``open`` would raise, and change nothing: for asking before the slow imports of a run."""
        with _refusing_no_access(path):
            if (path / LOCK).exists():
                Lock.take(path / LOCK).release()
            _require_usable(path, resume)
            if not (path / LOCK).exists():
                _require_no_owner(path)
        if (path / STATE).is_file():
            resumed(path, recipe, None, warn=False)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end; nothing is left for a resumed one."""
        return is_finished(self.run)

    @property
    def seconds(self) -> float:
        """Seconds of work that earlier processes noted."""
        return float(self.run.get("seconds", 0.0))

    def note_seconds(self, seconds: float) -> None:
        """Keep the seconds of work so far, so that those of a killed process count up to its last checkpoint."""
        self._write({**self.run, "seconds": round(seconds, 1)})

    def require_same(self, what: str, key: str, value: str | None) -> None:
        """Store the hash ``value`` of ``what`` under ``key``, or compare it with the one stored when the run began.

        Raises UsageError when they differ, here or among the processes of the run: going on would mix two runs.
        """
        processes.require_same(what, value)
        if key not in self.run:
            self._write({**self.run, key: value})
        elif self.run[key] != value:
            raise UsageError(
                f"{self.path}: {what} changed since this run began ({key} {self.run[key]} -> {value}); "
                "put the old one back and --resume, or choose another --output"
            )

    def phase_done(self, name: str) -> bool:
        """Whether the phase ``name`` was marked done."""
        return name in self.run["phases"]

    def record(self, name: str) -> dict[str, Any]:
        """What ``mark_done`` was given for the phase ``name``. Raises KeyError when it is not done."""
        record: dict[str, Any] = self.run["phases"][name]
        return record

    def mark_done(self, name: str, record: Mapping[str, Any]) -> None:
        """Note, atomically, that the phase ``name`` is finished; its metrics are on the disk by then."""
        self.sync_metrics()
        self._write({**self.run, "phases": {**self.run["phases"], name: dict(record)}})

    def set_state(self, state: State) -> None:
        """The state of the whole run, with the time."""
        self._write({**self.run, "state": state, "finished": timestamp() if state == "done" else None})

    def append_metrics(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to metrics.jsonl; each has ``run``, ``stage`` and ``step``. Raises LostLockError."""
        self.require_held()
        if self._writes:
            append_jsonl(self.path / METRICS, rows)

    def sync_metrics(self) -> None:
        """Force the metrics to the disk; to be called before a checkpoint, which must not be ahead of them. Raises
        LostLockError."""
        self.require_held()
        if self._writes and (self.path / METRICS).exists():
            sync_file(self.path / METRICS)

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl."""
        return read_jsonl(self.path / METRICS) if (self.path / METRICS).exists() else []

    def truncate_after(self, run: str, stage: str, step: int, validated: bool = True) -> None:
        """Drop the rows of ``run`` and ``stage`` after ``step``: a resumed stage writes those steps again. The
        validation of ``step`` itself goes too where it is to be ``validated`` again."""
        self.require_held()
        if not self._writes:
            return
        rows = self.metrics()
        kept = [
            row
            for row in rows
            if (row["run"], row["stage"]) != (run, stage)
            or (row["step"] < step or (row["step"] == step and (validated or row["kind"] != "validation")))
        ]
        if len(kept) < len(rows):
            write_jsonl(self.path / METRICS, kept)

    def require_held(self) -> None:
        """To be asked before a write into the directory. Raises LostLockError where another process may write there
        too, because the lock file was removed; the processes that do no writing ask nothing."""
        if self._lock is not None:
            self._lock.require_held()

    def close(self) -> None:
        """Give the directory back."""
        if self._lock is not None:
            console.close_log()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A run that leaves by an exception is marked failed or interrupted, as far as the disk allows.

        Input that was refused before anything was done leaves the directory free for the next try.
        """
        if isinstance(error, Stopped):
            error.saved_in = self.path
        if kind is not None and self._writes:
            console.record(f"ended by {reason_of(error)}")
            with contextlib.suppress(OSError, CurrReftError):  # a full disk or a lost lock, which the error is about
                self.require_held()
                if issubclass(kind, UsageError) and self._untouched():
                    (self.path / STATE).unlink()
                    (self.path / RECIPE).unlink()
                    (self.path / LOG).unlink(missing_ok=True)
                else:
                    self.run = {**self.run, "ended_by": reason_of(error)}
                    self.set_state("interrupted" if issubclass(kind, KeyboardInterrupt) else "failed")
        self.close()

    def _untouched(self) -> bool:
        entries = {each.name for each in self.path.iterdir()}
        return not self.run["phases"] and not self.run["resumed"] and entries <= {LOCK, LOG, RECIPE, STATE}

    def _write(self, run: dict[str, Any]) -> None:
        self.require_held()
        if self._writes:
            write_json(self.path / STATE, run)
        self.run = run

    @property
    def _writes(self) -> bool:
        return self._lock is not None


def _require_usable(path: Path, resume: bool) -> None:
    if not path.is_dir():
        return
    # A dot stands for a write that was cut off, and for the lock.
    used = sorted(each.name for each in path.iterdir() if not each.name.startswith("."))
    if resume and used and STATE not in used and used != [RECIPE]:
        raise UsageError(
            f"output {path} holds {used[0]} but no {STATE}: not the directory of a run, nothing to --resume; "
            "choose another --output"
        )
    if not resume and used:
        what = "a run" if STATE in used else used[0]
        raise UsageError(
            f"output {path} is in use: it holds {what}. Three ways out: go on with that run (--resume), "
            f"choose another directory (--output DIR), or remove it (rm -r {path})"
        )


def _require_no_owner(path: Path) -> None:
    """Where there is no lock file, the process that the run names may live all the same: somebody removed the file."""
    try:
        run = read_json(path / STATE)
    except (OSError, ValueError):  # no run yet, or one that is refused by the words of its own
        return
    owner = living_owner(run.get("owner"), path) if isinstance(run, dict) and run.get("state") == "running" else None
    if owner is not None:
        raise UsageError(
            f"output {path} is held by another run ({owner}), though its {LOCK} was removed; wait for it, stop it, or "
            "choose another --output"
        )


@contextlib.contextmanager
def _refusing_no_access(path: Path) -> Iterator[None]:
    """What the system does not let this user do in ``path`` is a wrong --output, not a failed run."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise UsageError(
            f"output {path} cannot be written to ({error.strerror}: {error.filename}); choose another --output, or "
            "ask for the right to write there"
        ) from error


def _store(path: Path, recipe: Recipe) -> None:
    """Keep what the run is now made by: where budgets grew, where the version that stored it had fewer keys, and where
    it was moved, so that the stored recipe names the run beside it and not a new one."""
    with contextlib.suppress(RecipeError):
        if recipe_source.read(path).data == recipe.model_dump(mode="json"):
            return
    write_atomic(path, dump_recipe(recipe))
