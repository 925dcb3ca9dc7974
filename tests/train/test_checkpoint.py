"""Checkpoints: what is saved comes back bit for bit, what is damaged is passed over, what is no longer needed goes."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from saved_steps import assert_is, flip, swap, tensors, truncate, zero

from curr_reft.errors import CheckpointError
from curr_reft.train.checkpoint import (
    at_step,
    file_table,
    last_complete,
    load,
    prune,
    retire,
    save_checkpoint,
    steps,
    write_manifest,
)
from curr_reft.train.optimizer_state import optimizer_tensors, restore_optimizer


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().view(-1).view(torch.uint8).tolist())


def test_tensors_and_state_come_back_bit_for_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=generator)
    group = {
        "plain": base,
        "tied": base,  # the same memory under another name
        "transposed": base.T,
        "part": base[1:3],
        "flat": base.view(-1),
        "empty": torch.empty(0, 3),
        "bits": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "whole": torch.arange(5),
        "byte": torch.get_rng_state(),
        "parameter": torch.nn.Parameter(torch.randn(3, dtype=torch.bfloat16)),
    }
    state = {"step": 3, "lr": 0.1 + 0.2, "big": 2**63 - 1, "nested": [{"a": None}]}
    save_checkpoint(tmp_path, 3, {"model": group}, state)
    loaded = load(at_step(tmp_path, 3))
    assert loaded.state == state
    for name, value in group.items():
        back = loaded.tensors["model"][name]
        assert back.dtype == value.dtype
        assert back.shape == value.shape
        assert raw(back) == raw(value)
    assert loaded.tensors["model"]["tied"].data_ptr() == loaded.tensors["model"]["plain"].data_ptr()
    kept = {path.suffix for path in (tmp_path / "step-000003").iterdir()}
    assert kept == {".safetensors", ".json"}


def test_no_other_tensors_are_read_than_asked_for(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, {"model": {"w": torch.ones(2)}, "optimizer": {"m": torch.zeros(2)}}, {"a": 1})
    loaded = load(at_step(tmp_path, 1), only=["model"])
    assert set(loaded.tensors) == {"model"}
    assert loaded.state == {"a": 1}
    assert set(load(at_step(tmp_path, 1)).tensors) == {"model", "optimizer"}


def test_saving_twice_gives_the_same_bytes_and_replaces(tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path, 5, tensors(5), {"step": 5})
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    save_checkpoint(tmp_path, 5, tensors(5), {"step": 5})
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert os.listdir(tmp_path) == ["step-000005"]


def test_prune_keeps_the_newest_and_the_named(tmp_path: Path) -> None:
    for step in range(5):
        save_checkpoint(tmp_path, step, tensors(step), {"step": step})
    prune(tmp_path, keep_last=2, keep_steps=[1])
    assert sorted(steps(tmp_path)) == [1, 3, 4]
    assert last_complete(tmp_path / "absent") is None


def test_what_is_over_keeps_the_last_and_the_chosen_without_optimizers(tmp_path: Path) -> None:
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, tensors(step), {"step": step})
    (tmp_path / "step-000005" / "manifest.json").write_text("{")  # damaged, which no longer matters
    weights = {step: load(at_step(tmp_path, step)).tensors["model"]["weight"] for step in (2, 4)}
    assert not load(at_step(tmp_path, 4)).retired
    for _ in range(2):
        retire(tmp_path, keep_last=2, chosen=2)
        assert sorted(steps(tmp_path)) == [2, 4, 5]
        for step in (2, 4):
            path = tmp_path / f"step-{step:06d}"
            assert sorted(os.listdir(path)) == ["manifest.json", "model.safetensors", "state.json"]
            kept = load(at_step(tmp_path, step))
            assert kept.retired
            assert kept.tensors.keys() == {"model"}
            assert torch.equal(kept.tensors["model"]["weight"], weights[step])
            (path / "optimizer.safetensors").touch()  # as a kill would leave it


def test_adamw_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def build() -> tuple[torch.nn.Module, torch.optim.AdamW]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(5, 7), torch.nn.GELU(), torch.nn.Linear(7, 2), torch.nn.Linear(9, 9)
        )
        return model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)  # the last layer is never used

    def train(model: torch.nn.Module, optimizer: torch.optim.AdamW, first: int, last: int) -> None:
        for step in range(first, last):
            inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
            model[:3](inputs).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    whole, its_optimizer = build()
    train(whole, its_optimizer, 0, 6)
    half, its_optimizer = build()
    train(half, its_optimizer, 0, 3)
    saved = {"model": half.state_dict(), "optimizer": optimizer_tensors(its_optimizer, half.named_parameters())}
    save_checkpoint(tmp_path, 3, saved, {})
    loaded = load(at_step(tmp_path, 3))
    resumed, its_optimizer = build()
    resumed.load_state_dict(loaded.tensors["model"])
    restore_optimizer(its_optimizer, resumed.named_parameters(), loaded.tensors["optimizer"])
    train(resumed, its_optimizer, 3, 6)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)

    lacking = {name: tensor for name, tensor in loaded.tensors["optimizer"].items() if name != "0.weight.exp_avg"}
    with pytest.raises(CheckpointError, match=r"no 0\.weight\.exp_avg"):
        restore_optimizer(its_optimizer, resumed.named_parameters(), lacking)
    with pytest.raises(CheckpointError, match="which no trained parameter has"):
        restore_optimizer(its_optimizer, [], loaded.tensors["optimizer"])
    wrong = {**loaded.tensors["optimizer"], "0.weight.exp_avg": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="has the shape"):
        restore_optimizer(its_optimizer, resumed.named_parameters(), wrong)


# Damage


@pytest.mark.parametrize("hurt", [truncate, Path.unlink, zero, swap, flip], ids=lambda hurt: hurt.__name__)
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_damaged_newest_checkpoint_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hurt: Callable[[Path], None], name: str
) -> None:
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, tensors(step), {"step": step})
    hurt(tmp_path / "step-000003" / name)
    with pytest.raises(CheckpointError, match=name):
        at_step(tmp_path, 3)
    with caplog.at_level(logging.WARNING, "curr_reft"):
        assert_is(tmp_path, 2)
        assert_is(tmp_path, 2)
    assert len(caplog.messages) == 1
    assert str(tmp_path / "step-000003" / name) in caplog.messages[0]
    assert "going back to step-000002" in caplog.messages[0]
    # The damaged one neither stands in the way of the same step nor pushes out a whole one.
    save_checkpoint(tmp_path, 3, tensors(3), {"step": 3})
    prune(tmp_path, keep_last=1)
    assert_is(tmp_path, 3)
    assert os.listdir(tmp_path) == ["step-000003"]


def test_damage_everywhere_starts_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, tensors(step), {"step": step})
        zero(tmp_path / f"step-{step:06d}" / "model.safetensors")
    assert last_complete(tmp_path) is None
    assert len(caplog.messages) == 1


def test_nothing_pickled_is_read(tmp_path: Path) -> None:
    # A pickle in place of a tensor file, with a manifest that vouches for it: refused, and nothing is executed.
    path = save_checkpoint(tmp_path, 1, tensors(1), {"step": 1})
    bait = tmp_path / "executed"
    torch.save({"weight": torch.zeros(1)}, path / "model.safetensors")
    (path / "model.pt").write_bytes(b"cposix\nsystem\n(S'touch " + str(bait).encode() + b"'\ntR.")
    write_manifest(path, 1, file_table(path))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(at_step(tmp_path, 1))
    assert not bait.exists()
