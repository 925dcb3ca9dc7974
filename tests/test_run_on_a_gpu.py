"""The whole method on a GPU, by the command: every phase, a stop, going on. ``python benchmarks/gpu.py`` runs it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

RECIPE = Path(__file__).parent / "recipes" / "tiny.yaml"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and CURR_REFT_TEST_GPU=1")


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "curr_reft", "run", str(RECIPE), "--output", str(folder), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ))


def test_a_run_in_bfloat16_is_stopped_and_goes_on(tmp_path: Path) -> None:
    """SIGTERM after the first updates leaves a checkpoint of GPU tensors; the rest is done from there."""
    words = ("--model.device", "cuda", "--model.dtype", "bfloat16")
    first = start(tmp_path / "run", *words)
    deadline = time.monotonic() + 100
    while not list((tmp_path / "run").glob("stages/*/checkpoints/step-000002/manifest.json")):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 143, output
    second = start(tmp_path / "run", *words, "--resume")
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["evaluation"]) == {"base", "sft", "rl", "curr_rl", "curr_reft"}
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["kind"] == "train" and row["grad_norm"] > 0 for row in metrics) > 5
    assert "could not be captured" not in output
