"""Files that are whole or not there: write aside, sync, rename; hashes; JSON lines; a full disk as a clear error.

Nothing here knows what a run or a checkpoint is. Names that begin with a dot are leftovers of a write that was cut off
and may be removed by whoever owns the folder.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from curr_reft.errors import DataError, DiskFullError

# EFBIG and EDQUOT are limits of the user rather than of the disk; the way out (make room) is the same.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def human_size(count: int) -> str:
    """``count`` bytes as people write it: 512 B, 3.1 MB, 2.0 GB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def free_space(path: Path) -> int:
    """Free bytes where ``path`` is, or where it would be created."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def folder_size(path: Path) -> int:
    """Bytes of all files below ``path``."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def require_space(path: Path, needed: int) -> None:
    """Raise DiskFullError when fewer than ``needed`` bytes are free at ``path``."""
    free = free_space(path)
    if free < needed:
        raise DiskFullError(_no_space(path, needed, free))


@contextlib.contextmanager
def reporting_full_disk(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn a failure for lack of space inside the block into DiskFullError with ``needed`` and the free bytes.

    Libraries written in other languages (safetensors), and shutil where it copies folders, report it in the text of
    their own exceptions.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        text = str(error)
        if getattr(error, "errno", None) in NO_SPACE or any(
            f"(os error {code})" in text or f"[Errno {code}]" in text for code in NO_SPACE
        ):
            raise DiskFullError(_no_space(path, needed, free_space(path))) from error
        raise


def _no_space(path: Path, needed: int | None, free: int) -> str:
    what = f"{human_size(needed)} needed" if needed is not None else "the write did not fit"
    return (
        f"no space left to write {path}: {what}, {human_size(free)} free; what was saved before is intact. "
        "Make room (or raise the quota) and go on with --resume"
    )


def sync_file(path: Path) -> None:
    """Force the content of the file ``path`` to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Force the names in the folder ``path`` to the disk, where the system can (it cannot on Windows)."""
    with contextlib.suppress(OSError):
        sync_file(path)


def sync_tree(path: Path) -> None:
    """Force every file and folder below ``path`` to the disk."""
    for folder, _, names in os.walk(path):
        for name in names:
            sync_file(Path(folder, name))
        sync_folder(Path(folder))


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content`` so that ``path`` holds either all of it or what it held before. Raises DiskFullError."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with reporting_full_disk(path, len(data)):
            with open(aside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what writes that were killed left in and below ``folder``. Only for the one process that writes there."""
    for leftover in folder.rglob(".*.tmp"):
        if leftover.is_file():
            leftover.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, atomically. Floats come back bit for bit."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in ``path``. Raises OSError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of the content of ``path``."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append one line for each row. Numbers that are not finite are written as null. Raises DiskFullError.

    A last line that a kill cut off is removed first, so that it never melts into the new one.
    """
    text = "".join(json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
    with reporting_full_disk(path, len(text)), open(path, "a+b") as file:
        end = _end_of_whole_lines(file)
        if end < file.seek(0, os.SEEK_END):
            file.truncate(end)
        file.write(text)


def read_jsonl(path: Path, size: int | None = None) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, or of its first ``size`` bytes; a last line without its end is left out. Raises
    DataError(file:line)."""
    rows = []
    for number, line in enumerate(path.read_bytes()[:size].splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{path}:{number}", f"not JSON: {error}") from error
    return rows


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """The whole file, atomically; numbers that are not finite are written as null."""
    lines = (json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_atomic(path, "".join(lines))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def _end_of_whole_lines(file: Any) -> int:
    position: int = file.seek(0, os.SEEK_END)
    while position > 0:
        start = max(0, position - 4096)
        file.seek(start)
        newline = file.read(position - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        position = start
    return 0
