"""Image files that somebody else wrote: refused by the user's door with file and line, or converted as documented."""

import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_recipe import refusal, write_rows
from PIL import Image, PngImagePlugin

from curr_reft.data.images import FileImage
from curr_reft.errors import DataError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8))


def saved(image: Image.Image, suffix: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *more: bytes, rows: bytes | None = None) -> bytes:
    """A PNG of ``width`` x ``height`` RGB pixels that holds ``rows`` (some, if it is to lie), and ``more`` chunks."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    content = rows if rows is not None else bytes((3 * width + 1) * height)
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def huge_jpeg() -> bytes:
    """The header of a JPEG of 65,500 x 65,500 pixels."""
    data = bytearray(saved(NOISE, "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


FRAMES = [Image.new("RGB", (40, 40), colour) for colour in ("lime", "red", "blue")]
TEXT_BOMB = zlib.compress(bytes(200_000_000))  # 200 MB in 200 kB

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty.png": (b"", "is an empty file"),
    "text.png": (b"this is not an image\n" * 40, "is not an image of a known format"),
    "page.jpg": (b"<!DOCTYPE html><html>404 Not Found</html>", "is a web page (HTML) saved in place of the file"),
    "cut.jpg": (saved(NOISE, "JPEG")[:1500], "cannot be decoded"),
    "cut.png": (saved(NOISE, "PNG")[:1500], "cannot be decoded"),
    "cut.webp": (saved(NOISE, "WEBP", lossless=True)[:1500], "cut.webp"),
    "cut.gif": (saved(NOISE, "GIF")[:1500], "cannot be decoded"),
    "header.png": (saved(NOISE, "PNG")[:20], "header.png"),
    "bomb.png": (png(10_000, 10_000, rows=bytes(30_001 * 20)), "10000x10000 pixels, more than max_pixels 64000000"),
    "bomb.jpg": (huge_jpeg(), "has more than max_pixels"),
    "thin.png": (png(20_000, 3), "the longer side may be at most 200 times"),
    "float.tiff": (saved(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), "32-bit integer or float pixels"),
    "vector.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image of a known format"),
    "vector.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is not an image of a known format"),
    "text_bomb.png": (png(9, 9, chunk(b"zTXt", b"Comment\0\0" + TEXT_BOMB)), "unpacks to more than 1 MB"),
    "itxt_bomb.png": (png(9, 9, chunk(b"iTXt", b"Comment\0\1\0\0\0" + TEXT_BOMB)), "unpacks to more than 1 MB"),
    "icc_bomb.png": (png(9, 9, chunk(b"iCCP", b"name\0\0" + TEXT_BOMB)), "unpacks to more than 1 MB"),
}


def test_bad_files_are_refused_with_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By ``curr-reft check``, ten at a time, which is how many are shown."""
    NOISE.save(tmp_path / "good.png")
    for name, (content, _) in REFUSED.items():
        (tmp_path / name).write_bytes(content)
    names = [*REFUSED]
    for start in range(0, len(names), 10):
        part = names[start : start + 10]
        said = refusal(write_rows(tmp_path, part), capsys)
        for line, name in enumerate(part, start=1):
            (told,) = [text for text in said.splitlines() if f"train.jsonl:{line}: " in text]
            assert name in told
            assert REFUSED[name][1] in told, (name, told)


def colours(folder: Path, name: str) -> set[tuple[int, ...]]:
    image = FileImage(folder, name)
    opened = image.open()
    assert opened.mode == "RGB"
    assert opened.size == image.size
    return {opened.getpixel((x, y)) for x in (1, opened.width // 2) for y in (1, opened.height // 2)}  # type: ignore[misc]


def test_what_is_odd_and_not_bad_is_converted_as_documented(tmp_path: Path) -> None:
    lime, white = (0, 255, 0), (255, 255, 255)
    moving: dict[str, Any] = {"save_all": True, "append_images": FRAMES[1:]}
    files = {
        "moving.gif": (saved(FRAMES[0], "GIF", **moving), lime),
        "moving.webp": (saved(FRAMES[0], "WEBP", lossless=True, **moving), lime),
        "moving.png": (saved(FRAMES[0], "PNG", **moving), lime),
        "pages.tiff": (saved(FRAMES[0], "TIFF", **moving), lime),
        "cmyk.jpg": (saved(Image.new("CMYK", (40, 40), (255, 0, 255, 0)), "JPEG", quality=100), lime),
        "deep.png": (saved(Image.fromarray(np.full((40, 40), 257 * 200, np.uint16)), "PNG"), (200, 200, 200)),
        "clear.png": (saved(Image.new("P", (40, 40), 0), "PNG", transparency=0), white),
        "clear.webp": (saved(Image.new("RGBA", (40, 40), (9, 9, 9, 0)), "WEBP", lossless=True), white),
        "name.txt": (saved(FRAMES[0], "PNG"), lime),  # what it is, not how it is called
    }
    files["stereo.mpo"] = (saved(FRAMES[0], "MPO", quality=100, **moving), lime)
    for name, (content, colour) in files.items():
        (tmp_path / name).write_bytes(content)
        (found,) = colours(tmp_path, name)
        assert np.allclose(found, colour, atol=3), (name, found)
    Image.new("RGB", (1, 1), "lime").save(tmp_path / "one.png")
    assert FileImage(tmp_path, "one.png").open().getpixel((0, 0)) == lime


def test_what_a_picture_carries_along_costs_nothing(tmp_path: Path) -> None:
    """A colour profile and EXIF of megabytes, comments, and data after the end."""
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    for number in range(20):
        text.add_text(f"Comment {number}", "x" * 500_000, zip=True)
    profile = b"\0" * 5_000_000
    files = {
        "profile.jpg": saved(NOISE, "JPEG", icc_profile=profile),
        "profile.png": saved(NOISE, "PNG", icc_profile=profile[:500_000]),
        "exif.jpg": saved(NOISE, "JPEG", exif=exif),
        "comments.png": saved(NOISE, "PNG", pnginfo=text),
        "more.png": saved(NOISE, "PNG") + bytes(1_000_000),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        image = FileImage(tmp_path, name)
        assert image.size == ((64, 48) if name == "exif.jpg" else (48, 64))
        assert image.open().size == image.size


PEAK = """
import resource, sys
from pathlib import Path
from curr_reft.data.images import FileImage
from curr_reft.errors import DataError
FileImage(Path(sys.argv[1]), "good.png").open()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.argv[2:]:
    try:
        FileImage(Path(sys.argv[1]), name).open()
        print(name, "was opened")
    except DataError:
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    """What is refused was not decoded: the pixels of these would take 13 GB."""
    NOISE.save(tmp_path / "good.png")
    names = ("bomb.png", "bomb.jpg", "text_bomb.png", "itxt_bomb.png", "icc_bomb.png")
    for name in names:
        (tmp_path / name).write_bytes(REFUSED[name][0])
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path, *names], capture_output=True, text=True, check=True, env=os.environ
    )
    assert int(done.stdout) < 120, done.stdout  # megabytes; Pillow lets compressed text grow to 64


def test_every_turned_and_mirrored_picture_fits_its_boxes(tmp_path: Path) -> None:
    """The size that boxes are checked against is that of the picture as it is opened."""
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        (tmp_path / f"{turn}.jpg").write_bytes(saved(NOISE, "JPEG", exif=exif))
        image = FileImage(tmp_path, f"{turn}.jpg")
        assert image.size == ((64, 48) if turn >= 5 else (48, 64)) == image.open().size


def test_bad_rows_may_be_skipped_and_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing stands in for them."""
    from curr_reft.prepare import load_items
    from curr_reft.recipe import load_recipe

    NOISE.save(tmp_path / "good.png")
    (tmp_path / "text.png").write_bytes(REFUSED["text.png"][0])
    for number in range(12):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (64, 48, 3), np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    recipe = write_rows(tmp_path, ["text.png", *(f"{number}.png" for number in range(12))])
    data = load_items(load_recipe(recipe, ["--data.bad_rows", "skip"]))
    assert [source for source, _ in data.skipped] == ["train.jsonl:1"]
    assert len(data.items) == 13
    assert data.account()["skipped_rows"] == 1


def test_an_error_of_the_decoder_in_training_names_the_row(tmp_path: Path) -> None:
    """A file that was good when it was checked, and is not when it is asked for."""
    path = tmp_path / "x.png"
    NOISE.save(path)
    image = FileImage(tmp_path, "x.png", source="train.jsonl:5")
    image.check()
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r"train\.jsonl:5: image 'x\.png' cannot be decoded"):
        image.open()
    path.write_bytes(saved(NOISE.resize((20, 20)), "PNG"))
    with pytest.raises(DataError, match=r"is \(20, 20\) once decoded, but its header says \(48, 64\)"):
        image.open()
