"""Runs that kill themselves at a place of their own work that a test names, for tests of what a kill leaves.

A process that is watched from outside is killed some milliseconds late, and on a busy machine many. Here the process
itself listens to what it does to files (``sys.addaudithook``) and sends itself SIGKILL before the operation that was
named: nothing after it happens, as with any other kill -9. It also writes down what it saves, when it is saved.
"""

import fnmatch
import hashlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import tiny_run

# Audited before they are done. ``open`` is also how a folder is synced: after what it holds was renamed into place.
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "shutil.copyfile"}
SAVES = {"checkpoints": "step-*", "candidates": "part-*"}  # folder -> what is whole once the folder is synced


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Before the ``number``-th ``operation`` of one process on a path that matches ``path``, once ``there`` exists.

    Paths are relative to the run directory; ``path`` is a pattern of ``fnmatch``, in which ``*`` also matches ``/``.
    """

    path: str = "*"
    operation: str = "*"  # one of OPERATIONS, or any
    there: str = ""
    number: int = 1
    hurt: str = ""  # this file loses a bit, and the process goes on; empty: the process is killed


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint, or a part of the sampled answers, as it was when it came to its place."""

    path: str
    sha256: tuple[tuple[str, str], ...]  # (file, hash) in order


def at_save(folder: str, name: str) -> Moment:
    """When ``folder/name`` (in ``checkpoints`` or ``candidates``) has come to its place."""
    return Moment(path=folder, there=f"{folder}/{name}")


def start(*words: str | Path, run: Path, log: Path, journal: Path, moment: Moment | None = None) -> BaseProcess:
    """``curr-reft run RECIPE words...`` into the directory ``run``. ``journal`` gets a line for every save."""
    line = ["run", str(tiny_run.RECIPE), "--output", str(run), *map(str, words)]
    return tiny_run.fork(_carry_out, line, run, log, journal, moment)


def end(*words: str | Path, **options: Any) -> int:
    """``start`` and wait; the exit code, -SIGKILL when the moment came."""
    return tiny_run.wait(start(*words, **options))


def killed(*words: str | Path, moment: Moment, log: Path, **options: Any) -> None:
    """``end``, which must come by the ``moment``."""
    code = end(*words, moment=moment, log=log, **options)
    assert code == -signal.SIGKILL, f"{moment} never came, exit code {code}:\n{log.read_text()}"


def saves(journal: Path) -> list[Saved]:
    """All that was saved, in order, by all processes that wrote to ``journal``."""
    rows = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    return [Saved(path=row["path"], sha256=tuple(sorted(row["sha256"].items()))) for row in rows]


def _carry_out(words: list[str], run: Path, log: Path, journal: Path, moment: Moment | None) -> None:
    from curr_reft.cli import main

    tiny_run.begin(log)
    sys.addaudithook(_Watch(run, journal, moment))
    sys.exit(main(words))


class _Watch:
    """The audit hook. It opens files itself, and does not watch that."""

    def __init__(self, run: Path, journal: Path, moment: Moment | None) -> None:
        self.run, self.journal, self.moment = str(run) + os.sep, journal, moment
        self.looking = False
        self.seen = 0
        self.known = {entry for folder in run.rglob("*") if folder.name in SAVES for entry in _saves_in(folder)}

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or self.looking or not isinstance(arguments[0], str | Path):
            return
        path = str(arguments[0])
        if path.startswith(self.run):
            self.looking = True
            try:
                self.look(event, path.removeprefix(self.run))
            finally:
                self.looking = False

    def look(self, event: str, path: str) -> None:
        if os.path.basename(path) in SAVES:
            self.note(Path(self.run, path))
        moment = self.moment
        if moment is None or moment.operation not in ("*", event) or not fnmatch.fnmatchcase(path, moment.path):
            return
        if not os.path.exists(self.run + moment.there):
            return
        self.seen += 1
        if self.seen == moment.number and moment.hurt:
            flip_a_bit(Path(self.run, moment.hurt))
        elif self.seen == moment.number:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self, folder: Path) -> None:
        """Write down what came to ``folder`` since it was looked at last; what is saved again is written again."""
        if (folder.parent / "manifest.json").exists():  # published: what is done to its checkpoints is no save
            return
        for name, changed in sorted(_saves_in(folder) - self.known):
            self.known.add((name, changed))
            files = sorted(Path(name).iterdir()) if Path(name).is_dir() else [Path(name)]
            row = {"path": name.removeprefix(self.run), "sha256": {file.name: _sha256(file) for file in files}}
            with open(self.journal, "a") as journal:
                journal.write(json.dumps(row) + "\n")


def flip_a_bit(path: Path) -> None:
    """The size stays, the hash does not."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _saves_in(folder: Path) -> set[tuple[str, int]]:
    """(path, when it was written) of every save in ``folder``."""
    return {(str(path), path.stat().st_mtime_ns) for path in folder.glob(SAVES[folder.name])}


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
