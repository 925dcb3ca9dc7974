"""Published models: whole with record and hash, or not there; what was changed since is refused."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from saved_steps import flip, in_child, kill_at_file_event, truncate, zero

from curr_reft.errors import CheckpointError
from curr_reft.train.publish import publish, read_published, weights_hash


def save_model(value: float) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        save_file({"weight": torch.full((4,), value)}, path / "model.safetensors")
        (path / "config.json").write_text("{}")
        (path / "tokenizer").mkdir()
        (path / "tokenizer" / "vocab.json").write_text("{}")

    return save


def test_a_published_model_is_read_with_its_record_and_hash(tmp_path: Path) -> None:
    assert read_published(tmp_path) is None
    published = publish(tmp_path, save_model(1), {"chosen_step": 60, "validation_accuracy": 0.1 + 0.2})
    assert read_published(tmp_path) == published
    assert published.record == {"chosen_step": 60, "validation_accuracy": 0.1 + 0.2}
    assert published.weights_sha256 == weights_hash(published.model)
    again = publish(tmp_path, save_model(2), {"chosen_step": 80})
    assert again.weights_sha256 != published.weights_sha256
    assert read_published(tmp_path) == again
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", "model"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer/vocab.json"])
@pytest.mark.parametrize("hurt", [truncate, Path.unlink, zero, flip], ids=lambda hurt: hurt.__name__)
def test_a_changed_published_model_is_refused(tmp_path: Path, hurt: Callable[[Path], None], name: str) -> None:
    publish(tmp_path, save_model(1), {})
    hurt(tmp_path / "model" / name)
    with pytest.raises(CheckpointError, match=name):
        read_published(tmp_path)


def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, save_model(1), {})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for change in ({"weights_sha256": "0" * 64}, {"files": None}):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(CheckpointError, match=r"manifest\.json"):
            read_published(tmp_path)


def test_a_model_without_weights_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no safetensors"):
        publish(tmp_path, lambda path: (path / "pytorch_model.bin").touch(), {})
    assert os.listdir(tmp_path) == []


def test_a_kill_at_every_file_operation_of_publishing(tmp_path: Path) -> None:
    """Nothing, or a whole model: the old, then none, then the new one."""
    number = 0
    code = -signal.SIGKILL
    seen = set()
    while code != 0:
        number += 1
        folder = tmp_path / str(number)
        publish(folder, save_model(1), {"value": 1})

        def work(folder: Path = folder, number: int = number) -> None:
            kill_at_file_event(number)
            publish(folder, save_model(2), {"value": 2})

        code = in_child(work)
        published = read_published(folder)
        seen.add(published.record["value"] if published else None)
        assert publish(folder, save_model(3), {"value": 3}) == read_published(folder)
        assert sorted(os.listdir(folder)) == ["manifest.json", "model"]
    assert seen == {1, None, 2}
