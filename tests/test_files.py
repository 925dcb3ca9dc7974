"""Files that are whole or not there."""

import errno
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest

from curr_reft import files
from curr_reft.errors import DataError, DiskFullError


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    files.write_json(path, {"step": 1, "x": 0.1 + 0.2})
    assert files.read_json(path) == {"step": 1, "x": 0.1 + 0.2}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"no space left to write .*state\.json: \d+ B needed, .* free"):
        files.write_json(path, {"step": 2})
    monkeypatch.undo()
    assert files.read_json(path)["step"] == 1
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_killed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    files.write_atomic(path, "old")
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(os, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        files.write_atomic(path, "new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert path.read_text() == "old"


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), files.reporting_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(DiskFullError), files.reporting_full_disk(tmp_path):
        raise RuntimeError("I/O error: No space left on device (os error 28)")  # as safetensors says it


def test_a_folder_whose_copy_does_not_fit(tmp_path: Path) -> None:
    """shutil says so with an exception of its own, without a number."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(bytes(1 << 20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(DiskFullError), files.reporting_full_disk(tmp_path / "copy"):
            shutil.copytree(tmp_path / "model", tmp_path / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_space_is_asked_for_where_a_folder_will_be(tmp_path: Path) -> None:
    files.require_space(tmp_path / "not" / "there", 1)
    with pytest.raises(DiskFullError, match=r"needed, .* free"):
        files.require_space(tmp_path / "not" / "there", 1 << 62)


def test_lines_are_appended_after_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    files.append_jsonl(path, [{"step": 1}, {"step": 2, "loss": float("nan"), "parts": [float("inf"), 1.5]}])
    whole = path.read_bytes()
    for cut in (b'{"st', b'{"step": 3}', b'{"a": "' + b"x" * 10_000):  # the kill came before the line's end
        path.write_bytes(whole + cut)
        assert files.read_jsonl(path) == [{"step": 1}, {"step": 2, "loss": None, "parts": [None, 1.5]}]
        files.append_jsonl(path, [{"step": 3}])
        assert files.read_jsonl(path)[2:] == [{"step": 3}]
    path.write_bytes(b'{"st')
    files.append_jsonl(path, [{"step": 1}])
    assert files.read_jsonl(path) == [{"step": 1}]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: not JSON"):
        files.read_jsonl(path)


def test_hash_and_size() -> None:
    assert files.sha256_file(Path(os.devnull)) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [files.human_size(size) for size in (5, 1500, 2_000_000, 3_100_000_000)] == [
        "5 B",
        "1.5 kB",
        "2.0 MB",
        "3.1 GB",
    ]
