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
from types import TracebackType
from typing import Any, Self

from curr_reft.errors import DiskFullError, UsageError
from curr_reft.files import free_space, human_size

_APPLICATION = 0x4352564A  # of SQLite's application_id: this file is ours
_FORMAT = 1
_WAIT = 60.0  # seconds for another process's transaction to end


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a judge said about one candidate, or why it said nothing, and what it took."""

    scores: Mapping[str, float]  # by criterion; empty when failed
    total: float | None
    comment: str = ""
    failure: str | None = None
    prompt_tokens: int = 0  # of all tries
    completion_tokens: int = 0
    cost: float = 0.0  # in the currency of the recipe's prices


def cache_key(**parts: Any) -> bytes:
    """SHA-256 of ``parts``, plain data: judge, model, rubric, prompt, content of the images, sampling, repeat."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).digest()


class VerdictCache:
    """Use it in a ``with`` block, from any thread.

    Raises UsageError for a file that is not such a cache, DiskFullError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
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
                    "CREATE TABLE verdicts (key BLOB PRIMARY KEY, scores TEXT NOT NULL, total REAL, comment TEXT NOT "
                    "NULL, failure TEXT, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, "
                    "cost REAL NOT NULL) WITHOUT ROWID"
                )
            elif found != (_APPLICATION, _FORMAT):
                raise sqlite3.DatabaseError(f"application and format are {found}, not {(_APPLICATION, _FORMAT)}")

    def read(self, key: bytes) -> Entry | None:
        """What is known under ``key``."""
        try:
            with self._lock:
                row = self._db.execute(
                    "SELECT scores, total, comment, failure, prompt_tokens, completion_tokens, cost FROM verdicts "
                    "WHERE key = ?",
                    (key,),
                ).fetchone()
        except sqlite3.Error as error:
            raise self._refused(error) from error
        if row is None:
            return None
        scores, total, comment, failure, prompt_tokens, completion_tokens, cost = row
        return Entry(
            scores=json.loads(scores),
            total=total,
            comment=comment,
            failure=failure,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost=cost,
        )

    def write(self, key: bytes, entry: Entry) -> None:
        """Keep ``entry``; it is on the disk when this returns. Of a failure that was asked again the new one stays."""
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
            with self._lock:
                self._db.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error) -> UsageError | DiskFullError:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            return DiskFullError(
                f"no space left to write {self.path}: {human_size(free_space(self.path))} free; what was judged before "
                "is intact. Make room and repeat the command: it goes on where it was"
            )
        return UsageError(
            f"self_improvement.judge.cache {self.path} cannot be used as a file of verdicts ({error}); remove it or "
            "give another"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()


def _storable(text: str) -> str:
    """Half of a surrogate pair, which JSON may hold and UTF-8 may not, becomes a question mark."""
    return text.encode(errors="replace").decode()
