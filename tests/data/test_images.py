"""Images of rows written by others: opened inside the root only, checked before decoding, converted as documented."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from curr_reft.data.config import PILLOWS_LIMIT, DataConfig
from curr_reft.data.images import DrawnImage, FileImage, to_rgb
from curr_reft.errors import DataError


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png_header_only(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds a few bytes: what a decompression bomb looks like before decoding."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every path handed to Pillow or opened as bytes."""
    paths: list[str] = []
    pillow_open, path_open = Image.open, Path.open
    monkeypatch.setattr(Image, "open", lambda fp, *a, **k: (paths.append(str(fp)), pillow_open(fp, *a, **k))[1])
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: (paths.append(str(self)), path_open(self, *a, **k))[1])
    return paths


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "a/../../secret.png",
        "a/..",
        "..\\secret.png",
        "/etc/passwd",
        "C:\\secret.png",
        "C:secret.png",
        "\\\\host\\share\\x.png",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "FILE://x",
        "http://example.com/x.png",
        "https://example.com/x.png",
        "data:image/png;base64,AAAA",
        "~/secret.png",
        "~root/x.png",
        "good.png\0.jpg",
        "",
    ],
)
def test_path_out_of_the_root_is_refused_and_nothing_opened(tmp_path: Path, opened: list[str], path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    save(tmp_path / "secret.png", Image.new("RGB", (4, 4)))
    opened.clear()
    with pytest.raises(DataError, match=r"rows\.jsonl:7: ") as caught:
        FileImage(root, path, source="rows.jsonl:7")
    assert caught.value.source == "rows.jsonl:7"
    assert opened == []


def test_links_out_of_the_root_are_refused_and_links_inside_work(tmp_path: Path, opened: list[str]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    save(tmp_path / "secret.png", Image.new("RGB", (4, 4)))
    save(root / "good.png", Image.new("RGB", (5, 4)))
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "folder").symlink_to(tmp_path)
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "inside.png").symlink_to(root / "good.png")
    opened.clear()
    for path in ("out.png", "folder/secret.png", "loop.png"):
        with pytest.raises(DataError):
            _ = FileImage(root, path).size
    assert opened == []
    assert FileImage(root, "inside.png").size == (5, 4)


def test_link_exchanged_after_the_row_was_read_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    save(tmp_path / "secret.png", Image.new("RGB", (4, 4)))
    image = FileImage(root, str(save(root / "x.png", Image.new("RGB", (4, 4))).name))
    (root / "x.png").unlink()
    (root / "x.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="link"):
        image.open()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "empty file"),
        ("text.png", b"this is not an image\n" * 40, "not an image of a known format"),
        ("bomb.png", png_header_only(60_000, 60_000), "more than max_pixels"),
        ("above_pillows_warning.png", png_header_only(10_000, 10_000), "more than max_pixels"),
        ("thin.png", png_header_only(20_000, 3), "at most 200 times"),
        ("vector.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_bad_header_is_refused_before_decoding(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    image = FileImage(tmp_path, name, source="rows.jsonl:3")
    with pytest.raises(DataError, match=reason) as caught:
        image.check()
    assert caught.value.source == "rows.jsonl:3"
    assert name in caught.value.reason


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp", "tiff", "bmp"])
def test_truncated_file_is_refused_with_its_name(tmp_path: Path, suffix: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path = save(tmp_path / f"cut.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"cut\.{suffix}"):
        FileImage(tmp_path, path.name).open()


def test_missing_file_folder_and_pipe_are_refused(tmp_path: Path) -> None:
    import os

    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in (
        ("none.png", "does not exist"),
        ("folder.png", "not a regular"),
        ("pipe.png", "not a regular"),
    ):
        with pytest.raises(DataError, match=reason):
            FileImage(tmp_path, name).open()


def test_pixel_cap_is_a_setting(tmp_path: Path) -> None:
    save(tmp_path / "x.png", Image.new("RGB", (100, 50)))
    assert FileImage(tmp_path, "x.png", max_pixels_cap=5000).open().size == (100, 50)
    with pytest.raises(DataError, match="max_pixels 4999"):
        FileImage(tmp_path, "x.png", max_pixels_cap=4999).open()


def test_a_cap_above_that_of_pillow_is_refused(tmp_path: Path) -> None:
    """Nothing larger can be opened, and a message would name a cap that is not the one that acts."""
    assert 2 * Image.MAX_IMAGE_PIXELS == PILLOWS_LIMIT
    assert DataConfig(max_pixels=PILLOWS_LIMIT).max_pixels == PILLOWS_LIMIT
    with pytest.raises(ValidationError, match=f"max_pixels\n.*less than or equal to {PILLOWS_LIMIT}"):
        DataConfig(max_pixels=PILLOWS_LIMIT + 1)
    for name, width, reason in (("fits", 17_895_697, "at most 200 times"), ("above", 17_895_698, "limit of 178956970")):
        (tmp_path / name).write_bytes(png_header_only(width, 10))
        with pytest.raises(DataError, match=reason):
            FileImage(tmp_path, name, max_pixels_cap=PILLOWS_LIMIT).check()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turn_is_applied_and_size_knows_it(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste("red", (0, 0, 32, 16))  # the upper left quarter
    inverse = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # stored so that the turn undoes it
    stored = upright if inverse is None else upright.transpose(Image.Transpose(inverse))
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / f"x.{suffix}", stored, exif=exif, **({"quality": 100} if suffix == "jpg" else {}))
    image = FileImage(tmp_path, f"x.{suffix}")
    assert image.size == (64, 32)
    pixels = np.asarray(image.open(), dtype=int)
    assert pixels.shape == (32, 64, 3)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 90)
    expected = np.zeros((32, 64), dtype=bool)
    expected[:16, :32] = True
    assert (red == expected).mean() > 0.97


def test_size_does_not_decode(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png_header_only(640, 480))
    assert FileImage(tmp_path, "x.png").size == (640, 480)
    with pytest.raises(DataError, match="cannot be decoded"):
        FileImage(tmp_path, "x.png").open()


def test_every_mode_becomes_rgb_as_documented(tmp_path: Path) -> None:
    def middle(name: str) -> tuple[int, ...]:
        image = FileImage(tmp_path, name).open()
        assert image.mode == "RGB"
        return image.getpixel((1, 1))  # type: ignore[return-value]

    save(tmp_path / "grey16.png", Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16)))
    save(tmp_path / "grey16.tiff", Image.fromarray(np.full((4, 4), 65535, dtype=np.uint16)))
    save(tmp_path / "cmyk.jpg", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), quality=100)
    save(tmp_path / "palette.png", Image.new("RGB", (4, 4), "blue").quantize(4))
    save(tmp_path / "clear.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    save(tmp_path / "half.png", Image.new("RGBA", (4, 4), (255, 0, 0, 128)))
    save(tmp_path / "grey_alpha.png", Image.new("LA", (4, 4), (0, 0)))
    save(tmp_path / "bits.png", Image.new("1", (4, 4), 1))
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("lime", "red")]
    save(tmp_path / "moving.gif", frames[0], save_all=True, append_images=frames[1:])
    save(tmp_path / "clear.gif", Image.new("P", (4, 4), 0), transparency=0)

    assert middle("grey16.png") == (128, 128, 128)
    assert middle("grey16.tiff") == (255, 255, 255)
    assert np.allclose(middle("cmyk.jpg"), (255, 0, 0), atol=4)
    assert middle("palette.png") == (0, 0, 255)
    assert middle("clear.png") == (255, 255, 255)
    assert np.allclose(middle("half.png"), (255, 127, 127), atol=1)
    assert middle("grey_alpha.png") == (255, 255, 255)
    assert middle("bits.png") == (255, 255, 255)
    assert middle("moving.gif") == (0, 255, 0)
    assert middle("clear.gif") == (255, 255, 255)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, dtype: type) -> None:
    save(tmp_path / "x.tiff", Image.fromarray(np.ones((4, 4), dtype=dtype)))
    with pytest.raises(DataError, match="32-bit"):
        FileImage(tmp_path, "x.tiff").open()


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    save(tmp_path / "x.png", Image.new("RGB", (1, 1), "red"))
    assert FileImage(tmp_path, "x.png").open().getpixel((0, 0)) == (255, 0, 0)


def test_key_is_the_hash_of_the_bytes(tmp_path: Path) -> None:
    import hashlib

    first = save(tmp_path / "a.png", Image.new("RGB", (4, 4), "red"))
    (tmp_path / "b.png").write_bytes(first.read_bytes())
    save(tmp_path / "c.png", Image.new("RGB", (4, 4), "blue"))
    keys = [FileImage(tmp_path, name).key for name in ("a.png", "b.png", "c.png")]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] == hashlib.sha256(first.read_bytes()).hexdigest()


def test_drawn_image_is_drawn_at_each_opening_only() -> None:
    calls = []

    def draw() -> Image.Image:
        calls.append(1)
        return Image.new("L", (6, 5), 255)

    image = DrawnImage("a", (6, 5), draw)
    assert (image.key, image.size, calls) == ("a", (6, 5), [])
    assert image.open().mode == "RGB"
    assert len(calls) == 1
    with pytest.raises(AssertionError):
        DrawnImage("a", (5, 6), draw).open()


def test_to_rgb_keeps_rgb_pixels() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8))
    assert np.array_equal(np.asarray(to_rgb(noise)), np.asarray(noise))
