"""Graded answers by the hash of all that decides them, in one SQLite file that many runs may share.

A batch is one transaction: whatever ends the process, a row is there with its whole batch or not at all. A hash with k
answers has those numbered 0 to k - 1, so asking for more adds only what is missing.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from curr_reft.sqlite_cache import SqliteCache


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The grade of one sampled answer. ``accuracy`` is None where there is no score; ``status`` says why."""

    correct: bool
    accuracy: float | None
    status: str


class SampleCache(SqliteCache):
    """Use it in a ``with`` block. Raises UsageError for a file that is not such a cache, DiskFullError."""

    application = 0x43525446
    version = 1
    table = (
        "CREATE TABLE samples (question BLOB, sample INTEGER, correct INTEGER NOT NULL, accuracy REAL, "
        "status TEXT NOT NULL, PRIMARY KEY (question, sample)) WITHOUT ROWID"
    )
    key = "difficulty.cache"
    holds = "measured answers"
    done = "measured"

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
