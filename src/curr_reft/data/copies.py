"""Which of many pictures are copies of each other: what ``fingerprint.py`` defines for a pair, without all pairs.

``plain_copies`` is the definition, and quadratic. ``verified_copies`` finds the same groups: candidates come in blocks
from the bands of the hash; two pictures of a group that is already linked are not compared again; and of the others,
most are ruled out at a few pixels, those at which a picture differs most from its candidates. Each picture is decoded
once (``LOOKS``). What is left is compared in full, the likeliest first, at most ``MOST`` times a picture.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from curr_reft.console import Advance
from curr_reft.data.fingerprint import (
    BANDS,
    BITS_APART,
    LOOKS,
    PLACES,
    TINY_APART,
    WORST,
    WORST_DETAIL,
    Fingerprint,
    Look,
    agree,
    close_in_detail,
    is_candidate,
    look,
    same_look,
    smooth_sums,
)
from curr_reft.data.item import ImageSource

MOST = 128
"""Full comparisons of a picture with others. A copy differs less from its original than other candidates do, and is
compared first; where it stops there, the result says so."""
AT_ONCE = 2**21  # pairs of a block: bounds the memory
SOME = 2**15  # pairs whose copies of 4 x 4 pixels are compared together
PROBES = 8  # pixels at which two pictures are compared before all of them are
STEP = 4  # pixels between the places of a picture in detail that are probed: a sign of 7 pixels has one
SAMPLE = 8  # candidates that a picture's probes are chosen against
SMOOTHED = 512  # pictures whose smoothed detail is held


@dataclass(frozen=True)
class Copies:
    """What the search found."""

    pairs: list[tuple[int, int]]  # the first picture of each group of copies with each of the others
    cut_short: int = 0  # pictures with more candidates than were compared: copies of them may be missing


def plain_copies(prints: Sequence[Fingerprint], looks: Sequence[Look]) -> list[tuple[int, int]]:
    """All pairs of places that show one picture. The definition, which tests hold ``verified_copies`` to."""
    return [
        (first, second)
        for first, second in combinations(range(len(prints)), 2)
        if is_candidate(prints[first], prints[second]) and same_look(looks[first], looks[second])
    ]


def verified_copies(
    keys: Sequence[int],
    prints: Sequence[Fingerprint],
    pictures: Callable[[], Iterable[tuple[int, ImageSource]]],
    advance: Advance = lambda done: None,
) -> Copies:
    """The groups of ``plain_copies``, as pairs of keys. The picture of each key has its fingerprint in ``prints``.
    ``pictures`` begins a pass over (key, picture), taken only if there are candidates; only those are opened, and only
    where their look is not in ``LOOKS`` any more. ``advance`` is called as pictures are done with."""
    wanted = _with_candidates(prints)
    if not wanted.any():
        advance(len(prints))
        return Copies(pairs=[])
    places = np.flatnonzero(wanted)
    place_of = {keys[place]: number for number, place in enumerate(places.tolist())}
    images: list[ImageSource | None] = [None] * len(places)
    for key, image in pictures():
        number = place_of.get(key)
        if number is not None and images[number] is None:
            images[number] = image
    advance(len(prints) - len(places))
    table = _Table([prints[place] for place in places.tolist()])
    search = _Search(table, [image for image in images if image is not None])
    for first, second, rows in table.candidates():
        search.compare(first, second)
        advance(rows)
    linked = [keys[place] for place in places.tolist()]
    return Copies([(linked[first], linked[other]) for first, other in search.groups()], search.cut_short)


def look_of(image: ImageSource) -> Look:
    """What a picture is compared by: from its decoding, as long as that is kept. Raises DataError."""
    return LOOKS.get(image.key) or LOOKS.keep(image.key, look(image.open()))


def candidates(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    """Pairs of places (first < second) whose fingerprints are close."""
    if not prints:
        return []
    table = _Table(prints)
    found: list[tuple[int, int]] = []
    for first, second, _ in table.candidates():
        near = table.near(first, second)
        found += zip(near[0].tolist(), near[1].tolist(), strict=True)
    return sorted(found)


_Pairs = tuple[np.ndarray, np.ndarray]


def _with_candidates(prints: Sequence[Fingerprint]) -> np.ndarray:
    """Which pictures have a candidate."""
    wanted = np.zeros(len(prints), dtype=bool)
    if len(prints) < 2:
        return wanted
    table = _Table(prints)
    for first, second, _ in table.candidates(skip=wanted):
        for start in range(0, len(first), SOME):
            some, others = first[start : start + SOME], second[start : start + SOME]
            new = ~(wanted[some] & wanted[others])
            some, others = table.near(some[new], others[new])
            wanted[some] = wanted[others] = True
    return wanted


class _Table:
    """Fingerprints as arrays."""

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        self.bits_N = np.array([each.bits for each in prints], dtype=np.uint64)
        self.tiny_NC = np.frombuffer(b"".join(each.tiny for each in prints), dtype=np.uint8).reshape(len(prints), -1)

    def candidates(self, skip: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Blocks of pairs with close hashes, each pair once, and how many pictures are done with since the last block.
        Blocks of pictures that are all in ``skip`` are left out."""
        count = len(self.bits_N)
        buckets = list(self._buckets())
        if sum(len(members) ** 2 for _, members in buckets) > count**2:  # nearly all share a byte
            buckets = [(BANDS, np.arange(count))]
        total, done = sum(len(members) for _, members in buckets), 0
        for band, members in buckets:
            size = max(1, AT_ONCE // len(members))
            for start in range(0, len(members), size):
                some, others = members[start : start + size], members[start:]
                before, done = count * done // max(1, total), done + len(some)
                if skip is not None and skip[others].all():
                    continue
                yield *self._close(some, others, band), count * done // max(1, total) - before

    def near(self, first: np.ndarray, second: np.ndarray) -> _Pairs:
        """The pairs whose copies of 4 x 4 pixels are close too, the closest first for each ``second``."""
        levels = np.abs(self.tiny_NC[first].astype(np.int16) - self.tiny_NC[second])
        close = np.flatnonzero(levels.max(axis=1, initial=0) <= TINY_APART)
        first, second = first[close], second[close]
        order = np.lexsort((first, levels[close].sum(axis=1), second))
        return first[order], second[order]

    def _buckets(self) -> Iterator[tuple[int, np.ndarray]]:
        """(band, places of the pictures with one byte there)."""
        for band in range(BANDS):
            byte_N = (self.bits_N >> np.uint64(8 * band)) & np.uint64(0xFF)
            order = np.argsort(byte_N, kind="stable")
            parts = np.split(order, np.flatnonzero(np.diff(byte_N[order])) + 1)
            yield from ((band, members) for members in parts if len(members) > 1)

    def _close(self, some: np.ndarray, others: np.ndarray, band: int) -> _Pairs:
        """The pairs of one of ``some`` and a later one of ``others``, all sharing the byte of ``band`` (of any band if
        it is ``BANDS``), that no earlier band has."""
        differing = self.bits_N[some][:, None] ^ self.bits_N[others][None, :]
        close = (np.bitwise_count(differing) <= BITS_APART) & (some[:, None] < others[None, :])
        row, column = np.nonzero(close)
        shared = _shares_byte(differing[row, column], band)
        first_here = shared if band == BANDS else ~shared
        return some[row[first_here]], others[column[first_here]]


def _shares_byte(differing: np.ndarray, bands: int) -> np.ndarray:
    """Whether one of the lowest ``bands`` bytes is 0."""
    mask = (1 << 8 * bands) - 1
    ones, tops = np.uint64(0x0101010101010101 & mask), np.uint64(0x8080808080808080 & mask)
    low = differing & np.uint64(mask)
    zero: np.ndarray = ((low - ones) & ~low & tops) != 0
    return zero


class _Search:
    """Groups of copies among pictures, by pairs of candidates that come in blocks."""

    def __init__(self, table: _Table, images: Sequence[ImageSource]) -> None:
        self.table = table
        self.images = images
        count = len(images)
        self._group = np.arange(count)  # the number of the group of each picture
        self._members = {number: np.array([number]) for number in range(count)}
        self._compared = np.zeros(count, dtype=np.int64)
        self._stopped = np.zeros(count, dtype=bool)
        self._smoothed: dict[int, np.ndarray] = {}
        self._shape = np.zeros((count, 2), dtype=np.int64)
        thumbnails, details = [], []
        for number, image in enumerate(images):
            seen = look_of(image)
            thumbnails.append(seen.thumbnail)
            details.append(_some_levels(seen.detail, STEP))
            self._shape[number] = seen.detail.shape
        self._thumbnails = np.stack(thumbnails)
        self._by_thumbnail = _Probes([_some_levels(each, 2) for each in thumbnails], WORST)
        self._by_detail = _Probes(details, WORST_DETAIL)

    @property
    def cut_short(self) -> int:
        return int(self._stopped.sum())

    def groups(self) -> Iterator[tuple[int, int]]:
        """(first of a group, another of it), in order."""
        for number in np.unique(self._group).tolist():
            first, *others = sorted(self._members[number].tolist())
            yield from ((first, other) for other in others)

    def compare(self, first: np.ndarray, second: np.ndarray) -> None:
        """Link the copies among the pairs."""
        first, second = self._apart(first, second)
        same = (self._shape[first] == self._shape[second]).all(axis=1)
        passed = np.zeros(len(first), dtype=bool)
        passed[~same] = self._by_thumbnail.agree(first[~same], second[~same])
        passed[same] = self._by_detail.agree(first[same], second[same])
        first, second = self.table.near(first[passed], second[passed])
        while len(first):  # one pair of each picture at a time, as each may link what the others would compare
            full = self._compared[second] >= MOST
            self._stopped[second[full]] = True
            first, second = first[~full], second[~full]
            taken = np.diff(second, prepend=-1) != 0
            self._compared[second[taken]] += 1
            self._link(first[taken], second[taken])
            first, second = self._apart(first[~taken], second[~taken])

    def _apart(self, first: np.ndarray, second: np.ndarray) -> _Pairs:
        """The pairs that are not in one group yet."""
        apart = self._group[first] != self._group[second]
        return first[apart], second[apart]

    def _link(self, first: np.ndarray, second: np.ndarray) -> None:
        for start in range(0, len(first), SMOOTHED):
            some, others = first[start : start + SMOOTHED], second[start : start + SMOOTHED]
            alike = agree(*(_smooth_all(self._thumbnails[each]) for each in (some, others)))
            for one, other in zip(some[alike].tolist(), others[alike].tolist(), strict=True):
                if self._group[one] != self._group[other] and self._same_detail(one, other):
                    self._merge(int(self._group[one]), int(self._group[other]))

    def _merge(self, one: int, other: int) -> None:
        if len(self._members[one]) < len(self._members[other]):
            one, other = other, one
        moved = self._members.pop(other)
        self._group[moved] = one
        self._members[one] = np.concatenate([self._members[one], moved])

    def _same_detail(self, one: int, other: int) -> bool:
        if (self._shape[one] == self._shape[other]).all():
            return close_in_detail(self._detail(one), self._detail(other))
        return same_look(look_of(self.images[one]), look_of(self.images[other]))

    def _detail(self, number: int) -> np.ndarray:
        if number not in self._smoothed:
            if len(self._smoothed) >= SMOOTHED:
                del self._smoothed[next(iter(self._smoothed))]
            self._smoothed[number] = smooth_sums(look_of(self.images[number]).detail)
        return self._smoothed[number]


class _Probes:
    """A few pixels of each picture, at which another one cannot be its copy if it differs by more than ``bound``."""

    def __init__(self, levels: Sequence[np.ndarray], bound: int) -> None:
        self._flat = np.concatenate([each.ravel() for each in levels])
        sizes = np.array([each.size for each in levels])
        self._start = np.cumsum(sizes) - sizes
        self._size = sizes
        self._bound = bound + 1  # levels are rounded
        self._at = np.full((len(levels), PROBES), -1, dtype=np.int64)

    def agree(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether each pair agrees at the probes of both. The pictures of a pair are of one shape."""
        self._choose(first, second)
        self._choose(second, first)
        left = np.arange(len(first))
        for probe in range(PROBES):
            for owner in (first, second):
                at = self._at[owner[left], probe]
                one, other = (self._flat[self._start[each[left]] + at].astype(np.int16) for each in (first, second))
                left = left[np.abs(one - other) <= self._bound]
        passed = np.zeros(len(first), dtype=bool)
        passed[left] = True
        return passed

    def _choose(self, owners: np.ndarray, partners: np.ndarray) -> None:
        """Probes of the ``owners`` that have none: where they differ most from the mean of some partners."""
        new = self._at[owners, 0] < 0
        order = np.argsort(owners[new], kind="stable")
        owners, partners = owners[new][order], partners[new][order]
        numbers, starts, counts = np.unique(owners, return_index=True, return_counts=True)
        for number, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
            sample = partners[start : start + count : -(-count // SAMPLE)]
            mean = np.mean([self._of(each) for each in sample.tolist()], axis=0)
            apart = np.abs(self._of(number) - mean)
            most = np.argsort(apart)[::-1][:PROBES]
            self._at[number] = np.resize(most, PROBES)

    def _of(self, number: int) -> np.ndarray:
        start = self._start[number]
        return self._flat[start : start + self._size[number]]


def _some_levels(levels: np.ndarray, step: int) -> np.ndarray:
    """The smoothed levels at every ``step``-th pixel of both sides, rounded: ``smooth_sums`` at these places alone."""
    sums = levels
    for axis, side in enumerate(levels.shape[:2]):
        places = np.arange(min(step // 2, side - 1), side, step)
        near = [sums.take(np.clip(places + apart, 0, side - 1), axis=axis) for apart in (-1, 0, 1)]
        sums = near[0].astype(np.int16) + near[1] + near[2]
    return ((sums + PLACES // 2) // PLACES).astype(np.uint8)


def _smooth_all(thumbnails_PHWC: np.ndarray) -> np.ndarray:
    """``smooth_sums`` of each."""
    return np.moveaxis(smooth_sums(np.moveaxis(thumbnails_PHWC, 0, 2)), 2, 0)
