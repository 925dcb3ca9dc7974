"""Checkpoints and published models: bit for bit, whole or not there, whatever is killed, damaged or full."""

import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from curr_reft.errors import CheckpointError, DiskFullError
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
from curr_reft.train.publish import publish, read_published, weights_hash


def tensors(step: int, size: int = 64) -> dict[str, dict[str, torch.Tensor]]:
    return {
        "model": {"weight": torch.full((size,), float(step)), "half": torch.full((3,), step, dtype=torch.bfloat16)},
        "optimizer": {"weight.exp_avg": torch.full((size,), step / 3)},
    }


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().view(-1).view(torch.uint8).tolist())


def assert_is(folder: Path, step: int) -> None:
    """The newest whole checkpoint of ``folder`` is that of ``step``, with its content."""
    found = last_complete(folder)
    assert found is not None
    assert found.step == step
    loaded = load(found)
    assert loaded.state == {"step": step}
    for name, group in tensors(step).items():
        for key, value in group.items():
            assert torch.equal(loaded.tensors[name][key], value)
            assert loaded.tensors[name][key].dtype == value.dtype


def in_child(work: Callable[[], None], kill_after: float | None = None) -> int:
    """The exit code of ``work`` in a forked child, which is killed (-9) after ``kill_after`` seconds."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at_file_event(number: int) -> None:
    """Kill this process (-9) at its ``number``-th file operation from now."""
    count = 0

    def hook(event: str, _: object) -> None:
        nonlocal count
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


# What is saved


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


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def swap(path: Path) -> None:
    shutil.copy(path.parent.parent / "step-000001" / path.name, path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # in a manifest, a digit of a hash
    path.write_bytes(content)


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


# Kills


def test_a_kill_at_every_file_operation_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """Step 1 is there; the child replaces it, saves step 2 and prunes, and is killed at its n-th operation."""
    number = 0
    code = -signal.SIGKILL
    seen = set()
    while code != 0:
        number += 1
        folder = tmp_path / str(number)
        save_checkpoint(folder, 1, tensors(1), {"step": 1})

        def work(folder: Path = folder, number: int = number) -> None:
            kill_at_file_event(number)
            save_checkpoint(folder, 1, tensors(1), {"step": 1})
            save_checkpoint(folder, 2, tensors(2), {"step": 2})
            prune(folder, keep_last=1)

        code = in_child(work)
        assert code in (0, -signal.SIGKILL)
        found = last_complete(folder)
        assert found is not None
        assert_is(folder, found.step)
        assert [name for name in os.listdir(folder) if not name.startswith("step-")] == []
        seen.add(found.step)
        save_checkpoint(folder, 3, tensors(3), {"step": 3})
        assert_is(folder, 3)
    assert seen == {1, 2}
    assert number > 20


def test_kills_at_random_moments_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    """The child goes on from the last whole checkpoint, as a run does, and is killed again and again."""
    rng = random.Random(0)

    def work() -> None:
        found = last_complete(tmp_path)
        step = found.step if found else 0
        while True:
            step += 1
            save_checkpoint(tmp_path, step, tensors(step, size=200_000), {"step": step})
            prune(tmp_path, keep_last=2)

    before = 0
    for _ in range(25):
        assert in_child(work, kill_after=rng.uniform(0.02, 0.12)) == -signal.SIGKILL
        found = last_complete(tmp_path)
        reached = found.step if found else 0
        assert reached >= before
        if found:
            assert torch.equal(load(found).tensors["model"]["weight"], torch.full((200_000,), float(reached)))
        before = reached
    assert before > 1


# Space


def test_a_full_disk_is_reported_and_the_last_checkpoint_is_whole(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, tensors(1), {"step": 1})
    report = tmp_path / "report"

    def work() -> None:
        # A limit of the process makes the writes of any file fail beyond it, as a full disk does.
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            save_checkpoint(tmp_path, 2, tensors(2, size=100_000), {"step": 2})
        except DiskFullError as error:
            report.write_text(str(error))

    assert in_child(work) == 0
    message = report.read_text()
    assert "step-000002: 865.5 kB needed" in message
    assert "free" in message
    assert "--resume" in message
    report.unlink()
    assert os.listdir(tmp_path) == ["step-000001"]
    assert_is(tmp_path, 1)
    save_checkpoint(tmp_path, 2, tensors(2), {"step": 2})
    assert_is(tmp_path, 2)


def test_a_small_file_system_fills_up(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        for step in range(1, 4):  # 512 kB each
            save_checkpoint(disk, step, tensors(step, size=64_000), {"step": step})
        last = 3
        with pytest.raises(DiskFullError, match=r"needed, .* free"):
            save_checkpoint(disk, 4, tensors(4, size=64_000), {"step": 4})
        found = last_complete(disk)
        assert found is not None
        assert found.step == last
        prune(disk, keep_last=1)
        save_checkpoint(disk, last + 1, tensors(last + 1, size=64_000), {"step": last + 1})
    finally:
        subprocess.run(["umount", disk], check=True)


# Published models


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
