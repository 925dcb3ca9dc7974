"""Unbroken runs to compare with, one of each kind for all tests."""

import functools
from collections.abc import Callable

import exact_runs
import pytest


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], exact_runs.Unbroken]:
    """``unbroken("lora")``: the run of ``exact_runs.FLAGS["lora"]``. Tests do not change it."""
    return functools.cache(lambda kind: exact_runs.unbroken(tmp_path_factory.mktemp(f"unbroken-{kind}"), kind))
