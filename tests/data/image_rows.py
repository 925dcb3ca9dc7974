"""Rows of many small image files, each of its own content, for tests of what a walk over them costs."""

import json
import struct
import zlib
from pathlib import Path


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def small_png(number: int, side: int = 32) -> bytes:
    """A picture of one colour, written without an image library: a hundred thousand take some seconds."""
    row = b"\0" + number.to_bytes(3, "big") * side
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(row * side, 1)) + _chunk(b"IEND", b"")


def write_image_rows(folder: Path, count: int) -> Path:
    """``folder/train.jsonl`` with its pictures, a thousand to a folder; and a row of its own for every other split."""
    names = ("cat", "dog", "bird")

    def row(number: int) -> str:
        path = folder / f"{number // 1000:03d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small_png(number))
        fields = {"problem": f"what is shown in picture {number}?", "solution": names[number % 3]}
        return json.dumps({**fields, "task": "classification", "image": str(path.relative_to(folder))}) + "\n"

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.jsonl").open("w") as file:
        file.writelines(map(row, range(count)))
    for place, split in enumerate(("validation", "test")):
        (folder / f"{split}.jsonl").write_text(row(count + place))
    return folder
