"""Determinism: one seed gives one result, whatever the order of hashes and of the names in a folder.

That two whole runs of one seed are equal byte for byte but for times is held by ``tests/test_run.py`` and, after kills,
by ``test_kill.py``; both run in one and the same environment. Here the environment differs.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_run

SMALL = ("--data.shapes.train", "{detection: 6, classification: 6, math: 6}", "--data.shapes.pool", "{math: 4}",
         "--data.shapes.ood_test", "{math: 2}", "--data.shapes.validation", "{math: 4}")  # fmt: skip


def command(*words: str | Path, hashes: str) -> None:
    environment = {**os.environ, **tiny_run.ONE_THREAD, "PYTHONHASHSEED": hashes}
    done = subprocess.run(
        [tiny_run.PROGRAM, *map(str, words)], capture_output=True, text=True, env=environment, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in tiny_run.files(folder).items()}


def test_questions_do_not_depend_on_the_order_of_hashes(tmp_path: Path) -> None:
    for hashes in ("1", "2"):
        command("data", "build", tiny_run.RECIPE, *SMALL, "--out", tmp_path / hashes, hashes=hashes)
    assert hash_of("curr", "1") != hash_of("curr", "2")  # the two environments do differ
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def hash_of(text: str, hashes: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"print(hash({text!r}))"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": hashes},
        check=True,
    )
    return done.stdout


@pytest.mark.slow
def test_a_run_does_not_depend_on_hashes_or_on_where_it_stands(finished: Any, tmp_path: Path) -> None:
    """Every file but those with times is equal, byte for byte; metrics and summary apart from times."""
    recipe = Path(shutil.copy(tiny_run.RECIPE, tmp_path / "elsewhere.yaml"))
    for hashes in ("1", "2"):
        run = tmp_path / f"a-longer-name-{hashes}"
        command("run", recipe, "--output", run, hashes=hashes)
        tiny_run.assert_same(run, finished.path)
