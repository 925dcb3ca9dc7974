"""Verdicts by the hash of all that decides them, in one SQLite file that many runs may share.

Every verdict is a transaction of its own, made as soon as the reply was read: whatever ends the process, what was
judged is there, and what was paid for is not paid again. Failures are kept too, with their reason, so that a second run
sends nothing; who wants them asked again says so. Other processes read while one writes.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curr_reft.sqlite_cache import SqliteCache


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a judge said about one candidate, or why it said nothing, and what it took."""

    scores: Mapping[str, float]  # by criterion; empty when failed
    total: float | None
    comment: str = ""
    failure: str | None = None
    reply: str = ""  # the raw reply that holds no verdict, cut and without secrets
    prompt_tokens: int = 0  # of all tries
    completion_tokens: int = 0
    cost: float = 0.0  # in the currency of the recipe's prices


def cache_key(**parts: Any) -> bytes:
    """SHA-256 of ``parts``, plain data: judge, model, rubric, prompt, content of the images, sampling, repeat."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).digest()


class VerdictCache(SqliteCache):
    """Use it in a ``with`` block, from any thread.

    Raises UsageError for a file that is not such a cache, DiskFullError.
    """

    application = 0x4352564A
    version = 1
    table = (
        "CREATE TABLE verdicts (key BLOB PRIMARY KEY, scores TEXT NOT NULL, total REAL, comment TEXT NOT NULL, "
        "failure TEXT, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, cost REAL NOT NULL) "
        "WITHOUT ROWID"
    )
    key = "self_improvement.judge.cache"
    holds = "verdicts"
    done = "judged"

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        super().__init__(path, any_thread=True)

    def _prepare(self) -> None:
        """The raw replies have a table of their own, so that a file without it is read, and one with it by versions
        that do not know it."""
        super()._prepare()
        self._db.execute("CREATE TABLE IF NOT EXISTS replies (key BLOB PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID")

    def read(self, key: bytes) -> Entry | None:
        """What is known under ``key``."""
        try:
            with self._lock:
                row = self._db.execute(
                    "SELECT scores, total, comment, failure, prompt_tokens, completion_tokens, cost, reply "
                    "FROM verdicts LEFT JOIN replies USING (key) WHERE key = ?",
                    (key,),
                ).fetchone()
        except sqlite3.Error as error:
            raise self._refused(error) from error
        if row is None:
            return None
        scores, total, comment, failure, prompt_tokens, completion_tokens, cost, reply = row
        return Entry(
            scores=json.loads(scores),
            total=total,
            comment=comment,
            failure=failure,
            reply=reply or "",
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost=cost,
        )

    def write(self, key: bytes, entry: Entry) -> None:
        """Keep ``entry``, in place of what was known; it is on the disk when this returns."""
        values = (
            key,
            json.dumps(dict(entry.scores)),
            entry.total,
            _storable(entry.comment),
            None if entry.failure is None else _storable(entry.failure),
            entry.prompt_tokens,
            entry.completion_tokens,
            entry.cost,
        )
        try:
            with self._lock, self._db:  # one transaction
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
                self._db.execute("DELETE FROM replies WHERE key = ?", (key,))
                if entry.reply:
                    self._db.execute("INSERT INTO replies VALUES (?, ?)", (key, _storable(entry.reply)))
        except sqlite3.Error as error:
            raise self._refused(error) from error


def _storable(text: str) -> str:
    """Half of a surrogate pair, which JSON may hold and UTF-8 may not, becomes a question mark."""
    return text.encode(errors="replace").decode()
