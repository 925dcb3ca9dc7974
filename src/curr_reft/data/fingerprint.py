"""Whether two files show the same picture: a re-encoded, resized or re-saved copy is found, an edited one is another.

Three steps, each dearer than the one before and taken for fewer pictures. ``Fingerprint`` (56 bytes) finds candidates
without comparing all pairs: a perceptual hash (the signs of the 63 lowest cosine coefficients of a small grey copy,
about their median; "pHash", Zauner 2010) and a copy of 4 x 4 pixels. ``same_thumbnail`` compares two thumbnails,
colours too, and ``same_detail`` what is left in grey and in detail. Together they have to tell a copy from a picture
that differs in one small object or sign, as generated data sets hold thousands of those. What tells them apart:
encoding and resizing leave small traces all over a picture, and an edit a large one in one place. The measured error
rates stand in docs/data.md.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from curr_reft.data.item import ImageSource

BITS_APART = 14  # most differing bits of a candidate's hash; copies of tiny pictures reach 14, of photographs 2
TINY_APART = 16  # most levels (of 255) a candidate's 4 x 4 copy may differ in
BANDS = 8  # candidates share at least one byte of the hash
SIDE = 42  # pixels of a thumbnail
UNSEEN = 10.0  # levels: so small a difference at its worst place is nobody's edit
WORST = 48.0  # levels at the worst place beyond which no encoder would be in use
TRACES = (0.5, 8.0)  # levels that three quarters of a copy's pixels stay below: not nothing, as after an edit
DETAIL = 224  # most pixels of the longer side at which pictures are compared in detail: a sign of 7 pixels is seen
WORST_DETAIL = 36.0  # levels at the worst place: copies were measured to 24, another suit on a card from 48 on
AT_ONCE = 4096  # pairs compared in detail with one pass over the pictures: at most 400 MB of grey

_ANGLES = np.pi * np.outer(np.arange(8), 2 * np.arange(32) + 1) / 64
_COSINES = np.cos(_ANGLES)  # the first 8 rows of the discrete cosine transform of 32 samples


@dataclass(frozen=True)
class Fingerprint:
    """What finds the candidates among millions of pictures."""

    bits: int  # 64-bit perceptual hash
    tiny: bytes  # 4 x 4 x 3 levels


def fingerprint(image: Image.Image) -> Fingerprint:
    """Of an RGB image."""
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), dtype=np.float64)
    low = (_COSINES @ grey @ _COSINES.T).ravel()[1:]  # without the mean brightness
    packed = np.packbits(np.append(low > np.median(low), False))
    tiny = np.asarray(image.resize((4, 4), Image.Resampling.LANCZOS), dtype=np.uint8)
    return Fingerprint(int.from_bytes(packed.tobytes(), "big"), tiny.tobytes())


def candidates(prints: list[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs of places (first < second) whose fingerprints are close."""
    if len(prints) < 2:
        return []
    bits_N = np.array([each.bits for each in prints], dtype=np.uint64)
    tiny_NC = np.frombuffer(b"".join(each.tiny for each in prints), dtype=np.uint8).reshape(len(prints), -1)
    found: set[tuple[int, int]] = set()
    for band in range(BANDS):
        byte_N = (bits_N >> np.uint64(8 * band)) & np.uint64(0xFF)
        order = np.argsort(byte_N, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(byte_N[order])) + 1):
            for start in range(0, len(members), 512):  # bounds the memory where one byte is very common
                found.update(_close(members[start : start + 512], members[start:], bits_N, tiny_NC))
    return sorted(found)


def _close(some: np.ndarray, others: np.ndarray, bits_N: np.ndarray, tiny_NC: np.ndarray) -> list[tuple[int, int]]:
    apart = np.bitwise_count(bits_N[some][:, None] ^ bits_N[others][None, :])
    row, column = np.nonzero((apart <= BITS_APART) & (some[:, None] < others[None, :]))
    first, second = some[row], others[column]
    levels = np.abs(tiny_NC[first].astype(np.int16) - tiny_NC[second].astype(np.int16)).max(axis=1, initial=0)
    near = levels <= TINY_APART
    return list(zip(first[near].tolist(), second[near].tolist(), strict=True))


def verified_copies(
    keys: Sequence[int], prints: list[Fingerprint], pictures: Callable[[], Iterable[tuple[int, ImageSource]]]
) -> list[tuple[int, int]]:
    """Pairs of keys whose pictures are copies of each other, the picture of each key having its fingerprint in
    ``prints``. ``pictures`` begins a pass over (key, picture), taken only if there are candidates; only those are
    opened."""
    pairs = [(keys[first], keys[second]) for first, second in candidates(prints)]
    pairs = _agreeing(pairs, pictures, thumbnail, same_thumbnail)
    return [
        pair
        for start in range(0, len(pairs), AT_ONCE)
        for pair in _agreeing(pairs[start : start + AT_ONCE], pictures, detail, same_detail)
    ]


_Pairs: TypeAlias = list[tuple[int, int]]
_Look: TypeAlias = Callable[[Image.Image], np.ndarray]


def _agreeing(
    pairs: _Pairs,
    pictures: Callable[[], Iterable[tuple[int, ImageSource]]],
    look: _Look,
    same: Callable[[np.ndarray, np.ndarray], bool],
) -> _Pairs:
    """The pairs that are the ``same`` by one ``look`` at each of their pictures."""
    wanted = {key for pair in pairs for key in pair}
    seen: dict[int, np.ndarray] = {}
    if wanted:
        for key, picture in pictures():
            if key in wanted and key not in seen:
                seen[key] = look(picture.open())
    return [(first, second) for first, second in pairs if same(seen[first], seen[second])]


def same_picture(first: Image.Image, second: Image.Image) -> bool:
    """Whether two RGB images are copies of each other, given that they are candidates."""
    return same_thumbnail(thumbnail(first), thumbnail(second)) and same_detail(detail(first), detail(second))


def thumbnail(image: Image.Image) -> np.ndarray:
    """(SIDE, SIDE, 3) levels of an RGB image, whatever its shape."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.uint8)


def same_thumbnail(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two thumbnails may show one picture."""
    difference = _smooth(first.astype(np.float32) - second.astype(np.float32))
    levels = np.abs(difference).max(axis=2)
    worst, most = float(levels.max()), float(np.quantile(levels, 0.75))
    return worst <= UNSEEN or (worst <= WORST and TRACES[0] <= most <= TRACES[1])


def detail(image: Image.Image) -> np.ndarray:
    """(height, width) levels of grey of an RGB image, at most ``DETAIL`` to a side. Grey, as encoders store colours
    coarsely: at the edges of coloured things they err as much as an edit does."""
    return np.asarray(_at_most(image.convert("L"), DETAIL), dtype=np.uint8)


def same_detail(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pictures in detail are one, compared at the size of the smaller: it has lost what it has not."""
    height, width = (min(sides) for sides in zip(first.shape, second.shape, strict=True))
    one, other = (_resized(each, width, height).astype(np.float32) for each in (first, second))
    return float(np.abs(_smooth((one - other)[:, :, None])).max()) <= WORST_DETAIL


def _at_most(image: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _resized(grey: np.ndarray, width: int, height: int) -> np.ndarray:
    if grey.shape == (height, width):
        return grey
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.LANCZOS))


def _smooth(levels: np.ndarray) -> np.ndarray:
    """The mean over 3 x 3 pixels: encoders add noise, edits shift a whole spot."""
    height, width = levels.shape[:2]
    padded = np.pad(levels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    total: np.ndarray = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))  # type: ignore[assignment]
    return total / 9
