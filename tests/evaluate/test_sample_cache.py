"""The file of graded answers: a batch is there or not, what is there stays, and nothing else is taken for it."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from curr_reft.errors import DiskFullError, UsageError
from curr_reft.evaluate.sample_cache import Sample, SampleCache

RIGHT = Sample(correct=True, accuracy=1.0, status="ok")
FAILED = Sample(correct=False, accuracy=None, status="timed_out")


def test_answers_come_back_in_order_and_as_they_were(tmp_path: Path) -> None:
    with SampleCache(tmp_path / "new" / "cache.sqlite") as cache:
        assert cache.read(b"a", 4) == []
        cache.add([(b"a", 1, FAILED), (b"a", 0, RIGHT), (b"b", 0, FAILED)])
        assert cache.read(b"a", 4) == [RIGHT, FAILED]
        assert cache.read(b"a", 1) == [RIGHT]
    with SampleCache(tmp_path / "new" / "cache.sqlite") as again:
        assert again.read(b"b", 4) == [FAILED]


def test_what_is_there_stays_and_a_batch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield b"b", 0, RIGHT
        raise RuntimeError("the model failed")

    with SampleCache(tmp_path / "c") as cache, SampleCache(tmp_path / "c") as other:
        cache.add([(b"a", 0, RIGHT)])
        other.add([(b"a", 0, FAILED), (b"a", 1, FAILED)])  # another process was slower with the first
        assert cache.read(b"a", 2) == [RIGHT, FAILED]
        with pytest.raises(RuntimeError):
            cache.add(broken())  # type: ignore[arg-type]
        assert cache.read(b"b", 1) == []


def test_a_kill_inside_a_batch_leaves_the_batches_before_it(tmp_path: Path) -> None:
    """The process ends by SIGKILL with rows of its second batch already written."""
    code = """
import os, signal, sys
from pathlib import Path
from curr_reft.evaluate.sample_cache import Sample, SampleCache
one = Sample(correct=True, accuracy=1.0, status="ok")
cache = SampleCache(Path(sys.argv[1]))
cache.add([(bytes([n]), 0, one) for n in range(100)])
cache._db.execute("PRAGMA cache_spill = 1")
cache._db.execute("BEGIN IMMEDIATE")
cache._db.execute("PRAGMA cache_size = 1")
cache._db.executemany("INSERT INTO samples VALUES (?, 0, 1, 1.0, 'ok')", [(os.urandom(32),) for _ in range(20000)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "c"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert os.path.exists(tmp_path / "c-journal")  # the second batch had reached the file
    with SampleCache(tmp_path / "c") as cache:
        assert [len(cache.read(bytes([n]), 1)) for n in range(100)] == [1] * 100
        assert cache._db.execute("SELECT count(*) FROM samples").fetchone() == (100,)


@pytest.mark.parametrize("kind", ["text", "other", "newer", "folder"])
def test_a_file_that_is_none_of_ours_is_refused_and_left_as_it_was(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "cache.sqlite"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("answers: many, but not in a database " * 40)
    else:
        if kind == "newer":
            SampleCache(path).__exit__(None, None, None)
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 2" if kind == "newer" else "CREATE TABLE photos (name TEXT)")
        db.close()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(
        UsageError, match=r"difficulty.cache .*cache.sqlite cannot be used .* remove it or give another"
    ):
        SampleCache(path)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    with SampleCache(tmp_path / "c") as cache:
        cache.add([(b"a", 0, RIGHT)])
        cache._db.execute("PRAGMA max_page_count = 3")
        with pytest.raises(DiskFullError, match="what was measured before is intact"):
            cache.add([(bytes([n]) * 32, m, RIGHT) for n in range(250) for m in range(8)])
        assert cache.read(b"a", 1) == [RIGHT]
