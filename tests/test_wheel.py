"""What a wheel brings to a place without a checkout: the program, the embedded model, the shipped recipes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pip(*words: str | Path, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", *map(str, words), "--quiet", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_demo_begins_from_a_wheel_alone(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("src", "recipes"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip("wheel", "--no-build-isolation", "--wheel-dir", "out", ".", folder=tmp_path)
    (wheel,) = (tmp_path / "out").glob("curr_reft-*.whl")
    pip("install", "--no-index", "--ignore-installed", "--prefix", "installed", wheel, folder=tmp_path)
    (packages,) = tmp_path.glob("installed/lib/python*/site-packages")
    done = subprocess.run(
        [sys.executable, "-c", "import sys, curr_reft.cli as c; print(c.__file__); sys.exit(c.main(sys.argv[1:]))",
         "check", str(tmp_path / "installed" / "share" / "curr-reft" / "recipes" / "demo.yaml")],
        cwd=tmp_path / "out", env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(packages))
    assert "recipe demo: model embedded, 1.3 M parameters" in done.stdout
