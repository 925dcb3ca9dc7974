"""One finished run of the tiny recipe for all tests that read one."""

import os
from pathlib import Path

import pytest
import tiny_run
from hypothesis import HealthCheck, settings

# Before torch is imported: tiny tensors on several threads are many times slower where another process works too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What these tests hold is held on the CPU, where bits are the same everywhere. Those of test_*on_a_gpu.py ask for one.
if os.environ.get("CURR_REFT_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# make test-slow asks for it: the corpora and the properties of grading again, with twenty times the examples.
settings.register_profile("slow", max_examples=2000, deadline=None)
# Seconds are no test: a busy machine exceeds any deadline for an example.
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
settings.load_profile("busy")


class Finished:
    """A run directory with what its command printed. Tests do not change it."""

    def __init__(self, path: Path, output: str) -> None:
        self.path = path
        self.output = output


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """``curr-reft run tests/recipes/tiny.yaml``, uninterrupted."""
    path = tmp_path_factory.mktemp("finished") / "run"
    done = tiny_run.curr_reft("run", tiny_run.RECIPE, "--output", path)
    assert done.returncode == 0, done.stdout + done.stderr
    return Finished(path, done.stdout)
