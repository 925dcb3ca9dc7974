"""A browser for the tests that look at the page, a run directory to look at, and charts that are drawn once."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_directory import make_run

from curr_reft.report import build, plots
from curr_reft.report.read import RunFiles

Browser = Callable[..., str]
_DRAWN: dict[tuple[str, str], Any] = {}


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Any]:
    """Charts by what they show: drawing the same eight anew takes three quarters of the time of a page."""

    def once(name: str) -> Callable[[RunFiles], Any]:
        def charts(files: RunFiles) -> Any:
            key = name, json.dumps([files.train, files.validation, files.evaluation])
            if key not in _DRAWN:
                _DRAWN[key] = getattr(plots, name)(files)
            return _DRAWN[key]

        return charts

    for name in ("training_charts", "score_charts"):
        monkeypatch.setattr(build, name, once(name))
    return _DRAWN


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run directory, to be copied."""
    return make_run(tmp_path_factory.mktemp("finished") / "demo")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A run directory of the test's own."""
    return Path(shutil.copytree(finished_run, tmp_path / "demo"))


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """Runs headless Chromium on a file with the given flags and returns what it printed."""
    name = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
    if name is None:
        pytest.skip("no Chromium in the path: the page is not looked at")

    def look(page: Path, *flags: str) -> str:
        command = [
            str(name), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri(),
        ]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return look
