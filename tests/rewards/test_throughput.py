"""The grader is fast: a generous share of what ``benchmarks/grading.py`` asks for, because test machines are busy."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from curr_reft.rewards.grading import grade, grade_all

SHARE = 0.2  # of the required figures


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "grading.py"
    spec = importlib.util.spec_from_file_location("grading_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("task", ["detection", "classification", "math"])
def test_throughput(benchmark: ModuleType, task: str) -> None:
    benchmark.throughput(task, 0.0)  # starts the workers
    assert benchmark.throughput(task, 1.0)["best"] >= SHARE * benchmark.REQUIRED[task]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detection", "classification", "math"])
def test_throughput_as_required(benchmark: ModuleType, task: str) -> None:
    """Needs a machine that is otherwise idle."""
    benchmark.throughput(task, 0.0)
    assert benchmark.throughput(task, 5.0)["best"] >= benchmark.REQUIRED[task]


@pytest.mark.parametrize("task", ["detection", "classification", "math", "algebra"])
def test_the_batch_grades_as_the_plain_grader_does(benchmark: ModuleType, task: str) -> None:
    rows = [row[:3] for row in benchmark.batch(task, 0, 64 if task == "algebra" else 256)]
    grades = grade_all(rows)
    assert grades == [grade(*row) for row in rows]
    assert {each.correct for each in grades} == {True, False}, "ordinary answers are right and wrong"
