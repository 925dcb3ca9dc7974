"""Base models as they are downloaded, and adapters on them as plain peft saves them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from adapted import load
from checkpoints import published_folder

from curr_reft.export.base import complete


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's folder as its publisher's repository looks, in bfloat16; written once."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = published_folder(family, tmp_path_factory.mktemp(family) / "Base-3B-Instruct")
            (made[family] / "LICENSE").write_text("Apache-2.0")
        return made[family]

    return folder


@pytest.fixture(scope="session")
def in_float32(published: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same in float32, where a merged model and its adapter can be compared closely."""

    def folder(family: str) -> Path:
        path = tmp_path_factory.mktemp(f"{family}-float32")
        load(published(family), "float32").save_pretrained(path)
        complete(path, published(family), "float32")
        return path

    return folder
