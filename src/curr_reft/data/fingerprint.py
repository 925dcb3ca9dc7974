"""Whether two files show the same picture: a re-encoded, resized or re-saved copy is found, an edited one is another.

Three steps, each dearer than the one before and taken for fewer pictures. ``Fingerprint`` (56 bytes) finds candidates
without comparing all pairs: a perceptual hash (the signs of the 63 lowest cosine coefficients of a small grey copy,
about their median; "pHash", Zauner 2010) and a copy of 4 x 4 pixels. ``same_thumbnail`` compares two thumbnails,
colours too, and ``same_detail`` what is left in grey and in detail. Together they have to tell a copy from a picture
that differs in one small object or sign, as generated data sets hold thousands of those. What tells them apart:
encoding and resizing leave small traces all over a picture, and an edit a large one in one place. The measured error
rates stand in docs/data.md.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
from PIL import Image

BITS_APART = 14  # most differing bits of a candidate's hash; copies of tiny pictures reach 14, of photographs 2
TINY_APART = 16  # most levels (of 255) a candidate's 4 x 4 copy may differ in
BANDS = 8  # candidates share at least one byte of the hash
SIDE = 42  # pixels of a thumbnail
UNSEEN = 10  # levels: so small a difference at its worst place is nobody's edit
WORST = 48  # levels at the worst place beyond which no encoder would be in use
TRACES = (0.5, 8.0)  # levels that three quarters of a copy's pixels stay below: not nothing, as after an edit
DETAIL = 224  # most pixels of the longer side at which pictures are compared in detail: a sign of 7 pixels is seen
WORST_DETAIL = 36  # levels at the worst place: copies were measured to 24, another suit on a card from 48 on
PLACES = 9  # pixels of a smoothed level: sums of so many are compared, which are whole numbers
KEPT_BYTES = 512 * 2**20  # of looks: some 13,000 frames of 320 x 216 pixels
RECENT, RECENT_BYTES = 64, 256 * 2**20  # decoded pictures that wait for one like them, as frames follow each other
ALIKE_BITS, ALIKE_TINY = 20, 32  # as BITS_APART and TINY_APART, of pictures that may have candidates in common

_ANGLES = np.pi * np.outer(np.arange(8), 2 * np.arange(32) + 1) / 64
_COSINES = np.cos(_ANGLES)  # the first 8 rows of the discrete cosine transform of 32 samples


@dataclass(frozen=True)
class Fingerprint:
    """What finds the candidates among millions of pictures."""

    bits: int  # 64-bit perceptual hash
    tiny: bytes  # 4 x 4 x 3 levels


@dataclass(frozen=True, eq=False)
class Look:
    """What two candidates are compared by, so that their pictures are not opened again."""

    thumbnail: np.ndarray  # (SIDE, SIDE, 3) levels, whatever the picture's shape
    detail: np.ndarray  # (height, width) levels of grey, at most DETAIL to a side

    @property
    def bytes(self) -> int:
        return self.thumbnail.nbytes + self.detail.nbytes


class LookStore:
    """Looks by the key of their picture. Beyond ``limit`` bytes the oldest go, and their pictures are opened again.

    Most pictures have no candidate, and a look takes as long as a fingerprint. So one is taken of those only that are
    like a picture decoded shortly before, and of that one."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self.limit = limit
        self._looks: OrderedDict[str, Look] = OrderedDict()
        self._bytes = 0
        self._recent: deque[tuple[str, Fingerprint, Image.Image, Image.Image]] = deque()
        self._recent_bytes = 0

    def meet(self, key: str, image: Image.Image, grey: Image.Image, found: Fingerprint) -> None:
        """A picture was decoded: take its look, and those of recent pictures that are like it."""
        alike = [each for each in self._recent if _close(each[1], found, bits=ALIKE_BITS, levels=ALIKE_TINY)]
        if alike:
            self.keep(key, look(image, grey))
        for other, _, picture, in_grey in alike:
            if other not in self._looks:
                self.keep(other, look(picture, in_grey))
        self._recent.append((key, found, image, grey))
        self._recent_bytes += _pixel_bytes(image)
        while len(self._recent) > RECENT or (self._recent_bytes > RECENT_BYTES and len(self._recent) > 1):
            self._recent_bytes -= _pixel_bytes(self._recent.popleft()[2])

    def get(self, key: str) -> Look | None:
        return self._looks.get(key)

    def keep(self, key: str, look: Look) -> Look:
        if key not in self._looks:
            self._looks[key] = look
            self._bytes += look.bytes
        while self._bytes > self.limit:
            self._bytes -= self._looks.popitem(last=False)[1].bytes
        return look

    def clear(self) -> None:
        self._looks.clear()
        self._recent.clear()
        self._bytes = self._recent_bytes = 0


LOOKS = LookStore()
"""The looks of pictures, from their decoding to the end of the leak search."""


def fingerprint(image: Image.Image, grey: Image.Image | None = None) -> Fingerprint:
    """Of an RGB image; ``grey`` is the same in grey, where it is at hand."""
    small = (grey or image.convert("L")).resize((32, 32), Image.Resampling.LANCZOS)
    grey_HW = np.asarray(small, dtype=np.float64)
    low = (_COSINES @ grey_HW @ _COSINES.T).ravel()[1:]  # without the mean brightness
    packed = np.packbits(np.append(low > np.median(low), False))
    tiny = np.asarray(image.resize((4, 4), Image.Resampling.LANCZOS), dtype=np.uint8)
    return Fingerprint(int.from_bytes(packed.tobytes(), "big"), tiny.tobytes())


def is_candidate(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two pictures are to be compared by their looks."""
    differing = first.bits ^ second.bits
    shared = any(not differing >> 8 * band & 0xFF for band in range(BANDS))
    return shared and _close(first, second, bits=BITS_APART, levels=TINY_APART)


def _close(first: Fingerprint, second: Fingerprint, *, bits: int, levels: int) -> bool:
    if (first.bits ^ second.bits).bit_count() > bits:
        return False
    return all(abs(one - other) <= levels for one, other in zip(first.tiny, second.tiny, strict=True))


def same_look(first: Look, second: Look) -> bool:
    """Whether two candidates are copies of each other."""
    return same_thumbnail(first.thumbnail, second.thumbnail) and same_detail(first.detail, second.detail)


def same_picture(first: Image.Image, second: Image.Image) -> bool:
    """Whether two RGB images are copies of each other, given that they are candidates."""
    return same_look(look(first), look(second))


def look(image: Image.Image, grey: Image.Image | None = None) -> Look:
    """Of an RGB image; ``grey`` is the same in grey, where it is at hand."""
    return Look(thumbnail(image), detail(grey or image))


def thumbnail(image: Image.Image) -> np.ndarray:
    """(SIDE, SIDE, 3) levels of an RGB image, whatever its shape."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.uint8)


def same_thumbnail(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two thumbnails may show one picture."""
    return bool(agree(smooth_sums(first)[None], smooth_sums(second)[None])[0])


def agree(first_PHWC: np.ndarray, second_PHWC: np.ndarray) -> np.ndarray:
    """Whether the two thumbnails of each pair may show one picture, by their ``smooth_sums``."""
    levels_PN = np.abs(first_PHWC - second_PHWC).max(axis=3).reshape(len(first_PHWC), -1)
    worst_P = levels_PN.max(axis=1)
    alike_P = worst_P <= PLACES * UNSEEN
    open_P = np.flatnonzero(~alike_P & (worst_P <= PLACES * WORST))
    if len(open_P):
        most = np.quantile(levels_PN[open_P], 0.75, axis=1) / PLACES
        alike_P[open_P] = (most >= TRACES[0]) & (most <= TRACES[1])
    return alike_P


def detail(image: Image.Image) -> np.ndarray:
    """(height, width) levels of grey of an RGB image, at most ``DETAIL`` to a side. Grey, as encoders store colours
    coarsely: at the edges of coloured things they err as much as an edit does."""
    return np.asarray(_at_most(image.convert("L"), DETAIL), dtype=np.uint8)


def same_detail(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pictures in detail are one, compared at the size of the smaller: it has lost what it has not."""
    height, width = (min(sides) for sides in zip(first.shape, second.shape, strict=True))
    one, other = (smooth_sums(_resized(each, width, height)) for each in (first, second))
    return close_in_detail(one, other)


def close_in_detail(first: np.ndarray, second: np.ndarray) -> bool:
    """``same_detail`` of two pictures of one shape, by their ``smooth_sums``."""
    return int(np.abs(first - second).max()) <= PLACES * WORST_DETAIL


def _at_most(image: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _resized(grey: np.ndarray, width: int, height: int) -> np.ndarray:
    if grey.shape == (height, width):
        return grey
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.LANCZOS))


def smooth_sums(levels: np.ndarray) -> np.ndarray:
    """The sum over 3 x 3 pixels, the edge repeated: encoders add noise, edits shift a whole spot. Sums of pictures
    differ as the sum of their difference does, so each picture is smoothed once."""
    rows = levels.astype(np.int16)
    rows[1:] += levels[:-1]
    rows[:-1] += levels[1:]
    rows[0] += levels[0]
    rows[-1] += levels[-1]
    total = rows.copy()
    total[:, 1:] += rows[:, :-1]
    total[:, :-1] += rows[:, 1:]
    total[:, 0] += rows[:, 0]
    total[:, -1] += rows[:, -1]
    return total


def _pixel_bytes(image: Image.Image) -> int:
    """Of an RGB image and its grey copy."""
    return 4 * image.width * image.height
