"""Data files opened as UTF-8 bytes, whatever wrote them: gz is unpacked, a byte order mark dropped, UTF-16 recoded.

A file that is something else than its name says (a Git LFS pointer, a web page, an archive, a workbook, nothing at all)
is refused in one line with the remedy, before anything tries to parse it.
"""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from curr_reft.data.encodings import likely_encoding, marked_encoding
from curr_reft.errors import DataError

HEAD = 4096  # bytes that are looked at
_GZ = b"\x1f\x8b"
_PACKED = {
    b"PK\x05\x06": "an empty zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a rar archive",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
}
_HTML = re.compile(rb"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
_EXCEL_DELIMITER = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(.*)", re.IGNORECASE)
_UNMARKED = {b"{\0": "utf-16-le", b"[\0": "utf-16-le", b"\0{": "utf-16-be", b"\0[": "utf-16-be"}  # JSON only: certain
_BASE64 = re.compile(r"(?:data:[\w/+.;=-]*,)?[A-Za-z0-9+/_-]{200,}={0,2}|data:[\w/+.-]+;base64,[A-Za-z0-9+/_-]*={0,2}")
_PICTURES = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk", "SUkqA", "TU0AK")  # how those of Pillow's formats begin


@contextmanager
def open_data(path: Path, name: str, encoding: str | None = None) -> Iterator[io.BufferedReader]:
    """The file as UTF-8 bytes without a byte order mark, from its beginning. ``name`` is what messages call it,
    ``encoding`` what the user says it is in.

    Bytes that are neither UTF-8 nor UTF-16 pass as they are: whoever decodes them knows the line. Raises DataError.
    """
    try:
        with path.open("rb") as stored:
            yield from _opened(stored, name, encoding)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(name, f"its gz packing is damaged ({error}); fetch the file again") from error
    except OSError as error:
        raise DataError(name, f"cannot be read: {error.strerror or error} ({path})") from error


def _opened(stored: io.BufferedReader, name: str, encoding: str | None) -> Iterator[io.BufferedReader]:
    file = stored
    if file.peek(2)[:2] == _GZ:
        file = io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=stored)))
    head = file.peek(HEAD)[:HEAD]
    if reason := foreign(head):
        raise DataError(name, reason)
    if head.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    if encoding is None:
        encoding = marked_encoding(head) or _UNMARKED.get(head[:2], "utf-8")
    if is_wide(encoding):
        file = io.BufferedReader(_Recoded(file, encoding, name))
    yield file


def foreign(head: bytes) -> str | None:
    """What a file is that begins so and is no data, with the remedy; None for one that may be data."""
    if not head:
        return "is an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself: run git lfs pull where it was cloned"
    if head.startswith(b"PK\x03\x04"):
        if b"xl/" in head or b"[Content_Types].xml" in head[:80]:
            return "is an Excel workbook: save it as CSV (UTF-8) and give that file"
        if b"mimetypeapplication/vnd.oasis" in head[:120]:
            return "is an OpenDocument file: save it as CSV (UTF-8) and give that file"
        return "is a zip archive: unpack it and give the folder or file inside"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return "is an old Excel workbook (.xls): save it as CSV (UTF-8) and give that file"
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it and give the folder or file inside"
    if _HTML.match(head.removeprefix(codecs.BOM_UTF8)):
        return (
            "is a web page (HTML) saved in place of the file: its address asks for a login or is that of a viewer; "
            "download the file itself"
        )
    packing = next((what for mark, what in _PACKED.items() if head.startswith(mark)), None)
    return f"is {packing}: unpack it first" if packing else None


def foreign_file(path: Path) -> str | None:
    """``foreign`` of a file; None for a folder and for what cannot be read, which its reader says."""
    try:
        with path.open("rb") as file:
            return foreign(file.read(HEAD))
    except OSError:
        return None


def data_suffix(path: Path) -> str:
    """The suffix in lower case, of ``rows.csv.gz`` too: ``.csv``."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def refuse_address(path: str) -> None:
    """Raises DataError for a path that is an address: files are read from this machine only."""
    found = _ADDRESS.fullmatch(path)
    if found is None or len(found[1]) == 1:  # a drive of Windows
        return
    scheme, rest = found[1].lower(), found[2]
    if scheme == "hf" or (scheme in ("http", "https") and rest.startswith("huggingface.co/datasets/")):
        names = rest.removeprefix("huggingface.co/").removeprefix("datasets/").split("/")
        repository = "/".join(names[:2])
        raise DataError(
            path,
            "data sets of the hub are not read from there; download this one first: "
            f"hf download {repository} --repo-type dataset --local-dir {names[:2][-1]}, and give that folder",
        )
    raise DataError(path, f"is an address ({scheme}), and data are read from files: download it and give the file")


def excel_delimiter(line: str) -> str | None:
    """The delimiter that Excel's first line ``sep=;`` names; None for any other line."""
    found = _EXCEL_DELIMITER.fullmatch(line)
    return found[1] if found else None


def conversion_hint(data: bytes) -> str:
    """What bytes that are not UTF-8 may be written in, as the end of a message for files that must be UTF-8."""
    name = likely_encoding(data)
    return "" if name.startswith("utf-8") else f"; it may be {name}: write the file as UTF-8 (iconv -f {name} -t utf-8)"


def without_base64(text: str) -> str:
    """``text`` with every picture in base64 cut to what a message needs to say of it."""
    return _BASE64.sub(lambda found: f"base64 picture, {len(found[0])} characters", text)


def is_base64(text: str) -> bool:
    """Whether a text is a picture in base64 (with or without ``data:image/png;base64,`` before it) and no path."""
    text = text.strip()
    if re.match(r"data:[^,]*;base64,", text[:200]) or _BASE64.fullmatch(text):
        return True
    return len(text) > 64 and text.startswith(_PICTURES) and "." not in text


def is_wide(encoding: str) -> bool:
    """Whether an encoding has several bytes for every character, so that a line's end is no byte."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


class _Recoded(io.RawIOBase):
    """A file in another encoding, as the same text in UTF-8."""

    def __init__(self, file: BinaryIO, encoding: str, name: str) -> None:
        self._text = io.TextIOWrapper(file, encoding=encoding, newline="")
        self._name = name
        self._encoding = encoding
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._left or self._text.read(1 << 16).removeprefix("\ufeff").encode("utf-8")
        except UnicodeError as error:
            raise DataError(self._name, f"not {self._encoding}: {error}") from error
        count = min(len(buffer), len(data))
        buffer[:count], self._left = data[:count], data[count:]
        return count
