"""A browser for the tests that look at the page, and a run directory to look at."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from run_directory import make_run

Browser = Callable[..., str]


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
