"""Files that are known by their hash: sealed records, the files they list, and a file that grows line by line.

A sealed record is a JSON object that holds the hash of its own content (``sha256``) and the size and hash of each file
it speaks for (``files``, paths relative to the record's folder). It is written after those files, so a record that is
there says that they are whole. What a result is computed from is read through its record; a difference is an error and
never a value.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from curr_reft.errors import DamagedError
from curr_reft.files import read_json, sha256_file, write_json

SEAL, FILES = "sha256", "files"
AGAIN = "put it back as it was, or remove it and repeat the command (of a run: with --resume) to make it again"
LOST = "put it back as it was, or start a new run"

Entry = Mapping[str, Any]  # size and sha256 of a file
Table = Mapping[str, Entry]  # relative path -> entry


def file_entry(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of the file ``path``."""
    return {"size": path.stat().st_size, "sha256": sha256_file(path)}


def bytes_entry(content: bytes) -> dict[str, Any]:
    """Size and SHA-256 of a file with this content."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def table_of(folder: Path, paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Path relative to ``folder`` -> entry, of every file in ``paths``."""
    return {path.relative_to(folder).as_posix(): file_entry(path) for path in sorted(paths)}


def differing_file(folder: Path, files: Table) -> str | None:
    """Name the first file that is there and is not as ``files`` says, with what is wrong; None when all are."""
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            continue
        if path.stat().st_size != entry["size"]:
            return f"{path} has {path.stat().st_size} bytes, its record says {entry['size']}"
        if sha256_file(path) != entry["sha256"]:
            return f"{path} does not have the hash its record says"
    return None


def missing_file(folder: Path, files: Table) -> str | None:
    """Name the first file of ``files`` that is not there; None when all are."""
    return next((f"{folder / name} is missing" for name in files if not (folder / name).is_file()), None)


def damaged_file(folder: Path, files: Table) -> str | None:
    """Name the first file that is missing or not as ``files`` says; None when all are whole."""
    return missing_file(folder, files) or differing_file(folder, files)


def seal_of(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record's content but for its seal, whatever the order and spacing it is written in."""
    content = {key: value for key, value in record.items() if key != SEAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with its seal, a former one replaced."""
    content = {key: value for key, value in record.items() if key != SEAL}
    return {**content, SEAL: seal_of(content)}


def write_sealed(path: Path, record: Mapping[str, Any], files: Iterable[Path] = ()) -> None:
    """Write ``record`` with its seal, atomically. ``files``, below the folder of ``path``, are whole by then."""
    table = table_of(path.parent, files)
    write_json(path, sealed({**record, FILES: table} if table else record))


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a record and verify its seal. Raises OSError where it is not there, DamagedError where it was changed."""
    try:
        record: dict[str, Any] = read_json(path)
        whole = record[SEAL] == seal_of(record)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        no_seal = isinstance(error, KeyError)
        found = "holds no hash (made before there was one, or changed)" if no_seal else f"is not readable ({error})"
        raise DamagedError(f"{path} is not as it was written: it {found}", AGAIN) from error
    if not whole:
        raise DamagedError(f"{path} was changed after it was written: it does not have the hash it says", AGAIN)
    return record


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record and verify it with the files it lists. Return None where one of them is not there: it is to be made
    again. Raises DamagedError where one was changed."""
    if not path.is_file():
        return None
    record = read_sealed(path)
    files: Table = record.get(FILES, {})
    problem = differing_file(path.parent, files)
    if problem is not None:
        raise DamagedError(f"{problem} ({path.name})", AGAIN)
    return None if missing_file(path.parent, files) else record


def content_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without its seal and its table of files."""
    return {key: value for key, value in record.items() if key not in (SEAL, FILES)}


class GrowingFile:
    """The hash of a file to which lines are appended, read once and then only where it grew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = 0
        self._hash = hashlib.sha256()

    def entry(self, size: int | None = None) -> dict[str, Any]:
        """Size and SHA-256 of what is in the file now, or of its first ``size`` bytes. It has only grown since the last
        call."""
        if self.path.is_file():
            self._read(self.path.stat().st_size if size is None else size)
        return {"size": self._bytes, "sha256": self._hash.hexdigest()}

    def require(self, entry: Entry) -> None:
        """Raise DamagedError where the file does not begin with what ``entry`` says. More may follow."""
        self.forget()
        size = self.path.stat().st_size if self.path.is_file() else 0
        if size < entry["size"]:
            raise DamagedError(f"{self.path} has {size} bytes, its record says at least {entry['size']}", LOST)
        self._read(entry["size"])
        if self._hash.hexdigest() != entry["sha256"]:
            what = f"{self.path} was changed after it was written"
            raise DamagedError(f"{what}: its first {entry['size']} bytes do not have the hash of its record", LOST)

    def forget(self) -> None:
        """Start again from the first byte: the file was written anew."""
        self._bytes, self._hash = 0, hashlib.sha256()

    def _read(self, end: int) -> None:
        if end == self._bytes:
            return
        with open(self.path, "rb") as file:
            file.seek(self._bytes)
            while self._bytes < end and (block := file.read(min(1 << 20, end - self._bytes))):
                self._hash.update(block)
                self._bytes += len(block)
