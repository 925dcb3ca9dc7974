"""Graded answers by the hash of all that decides them, in one SQLite file that many runs may share.

A batch is one transaction: whatever ends the process, a row is there with its whole batch or not at all. A hash with k
answers has those numbered 0 to k - 1, so asking for more adds only what is missing.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from curr_reft.errors import DiskFullError, UsageError
from curr_reft.files import free_space, human_size

_APPLICATION = 0x43525446  # of SQLite's application_id: this file is ours
_FORMAT = 1
_WAIT = 60.0  # seconds for another process's transaction to end


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The grade of one sampled answer. ``accuracy`` is None where there is no score; ``status`` says why."""

    correct: bool
    accuracy: float | None
    status: str


class SampleCache:
    """Use it in a ``with`` block. Raises UsageError for a file that is not such a cache, DiskFullError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
            self._prepare()
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _prepare(self) -> None:
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")  # two processes may open a new file at once
            tables = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            found = tuple(
                self._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            if not tables:
                self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._db.execute(f"PRAGMA user_version = {_FORMAT}")
                self._db.execute(
                    "CREATE TABLE samples (question BLOB, sample INTEGER, correct INTEGER NOT NULL, accuracy REAL, "
                    "status TEXT NOT NULL, PRIMARY KEY (question, sample)) WITHOUT ROWID"
                )
            elif found != (_APPLICATION, _FORMAT):
                raise sqlite3.DatabaseError(f"application and format are {found}, not {(_APPLICATION, _FORMAT)}")

    def read(self, key: bytes, samples: int) -> list[Sample]:
        """The first ``samples`` answers of the hash ``key``; fewer where they were not asked for yet."""
        try:
            rows = self._db.execute(
                "SELECT correct, accuracy, status FROM samples WHERE question = ? AND sample < ? ORDER BY sample",
                (key, samples),
            ).fetchall()
        except sqlite3.Error as error:
            raise self._refused(error) from error
        return [Sample(correct=bool(correct), accuracy=accuracy, status=status) for correct, accuracy, status in rows]

    def add(self, rows: Iterable[tuple[bytes, int, Sample]]) -> None:
        """Keep (hash, number of the answer, answer), all of them or none; what is there already stays."""
        values = [(key, number, int(one.correct), one.accuracy, one.status) for key, number, one in rows]
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error) -> UsageError | DiskFullError:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            return DiskFullError(
                f"no space left to write {self.path}: {human_size(free_space(self.path))} free; what was measured "
                "before is intact. Make room and repeat the command: it goes on where it was"
            )
        return UsageError(
            f"difficulty.cache {self.path} cannot be used as a file of measured answers ({error}); remove it or give "
            "another"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
