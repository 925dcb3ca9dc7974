"""Images that are opened only when needed, and never by surprise.

A ``FileImage`` comes from a row somebody else wrote: its path must stay inside the image root, its header is checked
before a single pixel is decoded, and whatever it holds becomes RGB by the rules of ``to_rgb``. Nothing is replaced in
silence: an image that cannot be used raises DataError with the row it came from.
"""

import errno
import hashlib
import os
import re
import stat
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath

from PIL import ExifTags, Image

from curr_reft.data.fingerprint import LOOKS, Fingerprint, fingerprint
from curr_reft.data.frame import MAX_ASPECT_RATIO, BoxFrame, ResizeRule, keep_size, resize_rule
from curr_reft.data.opening import HEAD, foreign, without_base64
from curr_reft.errors import DataError

__all__ = [
    "BoxFrame",
    "DrawnImage",
    "FileImage",
    "ResizeRule",
    "StoredImage",
    "keep_size",
    "resize_rule",
    "resolve_inside",
    "to_rgb",
]

DEFAULT_MAX_PIXELS = 64_000_000
"""Most pixels an image may have in its file: 192 MB once decoded. The size the model sees is another matter."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
"""What is decoded. Pillow knows more, some of it by calling other programs (EPS), so the list is closed."""

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def resolve_inside(root: Path, path: str, source: str = "") -> Path:
    """``root / path`` with links followed, if it lies inside ``root``. Opens nothing. Raises DataError.

    Refused: empty, NUL, ``..``, absolute (POSIX or Windows), ``~``, URLs (``file://``, ``http://``, ``data:``), and
    links that lead out of ``root``.
    """
    source = source or f"image {without_base64(path)!r}"

    def refuse(reason: str) -> DataError:
        return DataError(
            source, f"image path {without_base64(path)!r} {reason}; give a path relative to the image root"
        )

    if not path or "\0" in path:
        raise refuse("is empty or holds a NUL character")
    if "://" in path or re.match(r"(file|data|https?):", path, re.IGNORECASE):
        raise refuse("is a URL, and images are read from files only")
    if path.startswith("~"):
        raise refuse("starts with ~")
    for flavour in (PurePosixPath(path), PureWindowsPath(path)):
        if flavour.is_absolute() or flavour.drive or flavour.root:
            raise refuse("is absolute")
        if ".." in flavour.parts:
            raise refuse("holds ..")
    try:
        resolved_root = Path(root).resolve()
        resolved = (resolved_root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name too long, ...
        raise refuse(f"cannot be resolved ({error})") from error
    if not resolved.is_relative_to(resolved_root):
        raise refuse("leads out of the image root through a link")
    return resolved


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image as RGB: transparency goes over white, 16-bit grey is scaled to 8 bits, CMYK and palettes are converted.

    Raises ValueError for 32-bit integer and float pixels, whose range no file states.
    """
    if image.mode in ("I", "F"):
        raise ValueError("has 32-bit integer or float pixels; convert it to 8 or 16 bits first")
    if image.mode.startswith("I;16"):
        return image.point(lambda value: value / 257.0).convert("L").convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation 1-8 as the header states it, without decoding."""
    if image.format == "TIFF":  # Pillow turns these itself, and reports the turned size
        return 1
    # The PNG class would decode the whole image to look for EXIF after the pixels; the base class reads the header.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if value in _TRANSPOSE else 1


@dataclass(frozen=True, kw_only=True)
class StoredImage(ABC):
    """Bytes that somebody else wrote, wherever they are stored: nothing is decoded before its header was checked, and
    nothing is kept but what the header says and the hash."""

    max_pixels_cap: int = DEFAULT_MAX_PIXELS
    source: str = field(default="", compare=False)  # "file:line" of the row, for messages

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the bytes stand: equal for two sources of the same bytes, different for others."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The image as messages name it."""

    @abstractmethod
    def stored(self) -> BufferedReader | BytesIO:
        """The bytes as a file to read; the caller closes it. Raises DataError."""

    @cached_property
    def key(self) -> str:
        """SHA-256 of the stored bytes, in hexadecimal."""
        try:
            with self.stored() as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise self.error(f"cannot be read ({error.strerror or error})") from error

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height after the EXIF turn, from the header. Raises DataError."""
        with self._header() as image:
            width, height = image.size
            return (height, width) if _orientation(image) >= 5 else (width, height)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What finds copies of this picture under other bytes; decodes it. Raises DataError."""
        image = self.open()
        grey = image.convert("L")
        found = fingerprint(image, grey)
        LOOKS.meet(self.key, image, grey, found)
        return found

    def recall(self, size: tuple[int, int], key: str, found: Fingerprint | None) -> None:
        """Takes what an earlier look at this very image found, so that it is not opened again."""
        vars(self).update(size=size, key=key, **({} if found is None else {"fingerprint": found}))

    def check(self) -> None:
        """Path and header are good: what can be known without decoding. Raises DataError."""
        _ = self.size

    def open(self) -> Image.Image:
        """The decoded image: RGB, turned upright. Raises DataError."""
        with self._header() as image:
            orientation = _orientation(image)
            size = vars(self).setdefault("size", image.size[::-1] if orientation >= 5 else image.size)
            try:
                image.load()
                rgb = to_rgb(image)
            except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
                raise self.error(f"cannot be decoded: {error}") from error
        if orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[orientation])
        if rgb.size != size:
            raise self.error(f"is {rgb.size} once decoded, but its header says {size}")
        return rgb

    @contextmanager
    def _header(self) -> Iterator[Image.Image]:
        """The opened, not yet decoded image, its size checked."""
        with self.stored() as file, self._identified(file) as image:
            width, height = image.size
            if width * height > self.max_pixels_cap:
                raise self.error(
                    f"has {width}x{height} pixels, more than max_pixels {self.max_pixels_cap}; "
                    "shrink it or raise the cap"
                )
            if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
                raise self.error(
                    f"has {width}x{height} pixels; the longer side may be at most {MAX_ASPECT_RATIO} times the shorter"
                )
            yield image

    def _identified(self, file: BufferedReader | BytesIO) -> Image.Image:
        if not file.read(1):
            raise self.error("is an empty file")
        file.seek(0)
        try:
            with warnings.catch_warnings():
                # Pillow's own limit only warns; ours refuses.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                return Image.open(file, formats=FORMATS)
        except Image.UnidentifiedImageError as error:
            file.seek(0)
            if reason := foreign(file.read(HEAD)):
                raise self.error(reason) from error
            raise self.error(f"is not an image of a known format ({', '.join(FORMATS)})") from error
        except Image.DecompressionBombError as error:  # Pillow's own limit, the highest that data.max_pixels may be
            raise self.error(f"has more than max_pixels {self.max_pixels_cap}: {error}; shrink it") from error
        except Exception as error:
            if "too large" in str(error):  # Pillow's guard against text that unpacks to gigabytes
                raise self.error(
                    f"carries a text or a colour profile that unpacks to more than 1 MB; save it without ({error})"
                ) from error
            raise self.error(f"has a damaged header: {error}") from error

    def error(self, reason: str) -> DataError:
        """Names the row, the image and ``reason``."""
        return DataError(self.source or self.place, f"image {self.label} {reason}")


@dataclass(frozen=True)
class FileImage(StoredImage):
    """An image file inside ``root``. Making one checks the path and opens nothing; ``check`` reads the header."""

    root: Path
    path: str  # relative to root, as the row gives it

    def __post_init__(self) -> None:
        resolve_inside(self.root, self.path, self.source)

    @property
    def place(self) -> str:
        return str(Path(self.root) / self.path)

    @property
    def label(self) -> str:
        return repr(without_base64(self.path))

    def stored(self) -> BufferedReader:
        # Resolved again, not remembered: a link may have been exchanged since the row was read.
        path = resolve_inside(self.root, self.path, self.source)
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a folder, or a pipe that would hang the reader
                raise self.error("is not a regular file")
            file = _open_resolved(Path(self.root).resolve(), path)
        except FileNotFoundError as error:
            raise self.error(f"does not exist under {self.root}") from error
        except OSError as error:
            reason = "was exchanged for a link while it was opened" if error.errno in _LINKS else error.strerror
            raise self.error(f"cannot be read ({reason or error})") from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise self.error("is not a regular file")
        return file


_LINKS = (errno.ELOOP, errno.ENOTDIR)  # what the system says of a link where none may be


def _open_resolved(root: Path, path: Path) -> BufferedReader:
    """Opens ``path``, inside ``root`` and both without links, following none: one that was put there since it was
    resolved, by somebody who writes in the folder, must not lead out of it. Where the system cannot, it is opened as it
    is. Raises OSError."""
    if os.open not in os.supports_dir_fd:
        return path.open("rb")
    folders, name = path.relative_to(root).parts[:-1], path.name
    above = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
            os.close(above)
            above = below
        # Without waiting: of a pipe, nobody may ever open the other end.
        return os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=above), "rb")
    finally:
        os.close(above)


@dataclass(frozen=True)
class DrawnImage:
    """An image made by a function each time it is opened: nothing is kept, nothing is read from disk."""

    key: str  # names the content, as the hash of a file does
    size: tuple[int, int]  # width and height
    draw: Callable[[], Image.Image] = field(compare=False, repr=False)  # pure: equal pixels at every call

    def open(self) -> Image.Image:
        image = self.draw().convert("RGB")
        assert image.size == self.size, f"drawn as {image.size}, announced as {self.size}"
        return image
