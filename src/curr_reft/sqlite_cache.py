"""A file of results that many runs may share: opened, recognised as ours, and what goes wrong with it said.

What is kept, and under which hash, stands with what keeps it: ``evaluate/sample_cache.py`` and
``improve/verdict_cache.py``.
"""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from curr_reft.errors import DiskFullError, UsageError
from curr_reft.files import free_space, human_size

_WAIT = 60.0  # seconds for another process's transaction to end


class SqliteCache:
    """Use it in a ``with`` block. Raises UsageError for a file that is not such a cache, DiskFullError.

    ``any_thread``: the caller sees to it that one thread at a time asks.
    """

    application: ClassVar[int]  # of SQLite's application_id: this file is ours
    version: ClassVar[int]  # of the table
    table: ClassVar[str]  # the statement that creates it
    key: ClassVar[str]  # of the recipe, for messages
    holds: ClassVar[str]
    done: ClassVar[str]  # what was done for what it holds: "measured"

    def __init__(self, path: Path, any_thread: bool = False) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=not any_thread)
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
                self._db.execute(f"PRAGMA application_id = {self.application}")
                self._db.execute(f"PRAGMA user_version = {self.version}")
                self._db.execute(self.table)
            elif found != (self.application, self.version):
                raise sqlite3.DatabaseError(
                    f"application and format are {found}, not {(self.application, self.version)}"
                )

    def _refused(self, error: sqlite3.Error) -> UsageError | DiskFullError:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            return DiskFullError(
                f"no space left to write {self.path}: {human_size(free_space(self.path))} free; what was {self.done} "
                "before is intact. Make room and repeat the command: it goes on where it was"
            )
        return UsageError(
            f"{self.key} {self.path} cannot be used as a file of {self.holds} ({error}); remove it or give another"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
