"""The items of a recipe as a stream that can be read again: drawn, or rows of files with every row checked.

Nothing is kept between items but counts, one byte a row (which rows were given out), the last images looked at, and
about 400 bytes an image file (its size, hash and fingerprint), beside the looks of ``fingerprint.py``, which are
bounded. What a truth is, tasks know; ``read_truth`` is handed in. A row is never replaced by another one.
"""

import hashlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from curr_reft.console import progress
from curr_reft.data.config import DataConfig, FileEntry
from curr_reft.data.fingerprint import Fingerprint
from curr_reft.data.frame import BOX_TASKS, BoxFrame, FrameKind, as_corners, boxes_of, inverted_as_corners, map_boxes
from curr_reft.data.images import FileImage, StoredImage
from curr_reft.data.item import Box, Item, Name, Truth, UnverifiedTruthError
from curr_reft.data.loaders import LOADERS, LoaderEntry
from curr_reft.data.opening import refuse_address
from curr_reft.data.rows import BadRow, Row, RowOrBad, composition
from curr_reft.data.sampling import Sampling
from curr_reft.data.styles import read_fields
from curr_reft.data.validation import ValidationSplit
from curr_reft.errors import DataError
from curr_reft.seeding import stream

ReadTruth: TypeAlias = Callable[[str, Any], Truth]
"""``read_truth(task, raw)``: the truth of a row. Raises ValueError with a reason, KeyError for an unknown task."""

SPLITS = ("train", "validation", "test", "ood_test", "pool", "general")
SHOWN_PROBLEMS = 10
OUTSIDE_BY = 1.0  # pixels a box may reach over the edge of its image (rounding of the annotators) before it is refused
RECENT_IMAGES = 4096  # rows that share an image stand close together in most files

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Pass:
    """What one reading of the rows met on the way."""

    bad: list[BadRow] = field(default_factory=list)
    repaired: int = 0  # rows with typos of the reference data, which were repaired
    repairs: Counter[str] = field(default_factory=Counter)  # what was repaired -> rows
    repeated: int = 0  # rows listed twice in one split, or in the pool and elsewhere, and kept once
    given: dict[Hashable, bytearray] = field(default_factory=dict)  # what is read -> a row's 1 + place of its split
    # (task, category name) -> each way in which rows spell it that is more than case: its spelling, its first row
    spellings: dict[tuple[str, str], dict[str, tuple[str, str]]] = field(default_factory=dict)
    read_of: Counter[str] = field(default_factory=Counter)  # file -> rows that were read
    bad_of: Counter[str] = field(default_factory=Counter)  # file -> bad rows among them

    @property
    def mostly_bad(self) -> tuple[tuple[str, int, int], ...]:
        """(file, bad rows, rows) of each file of which more than half of the rows are bad: it is read wrongly."""
        counts = ((name, bad, self.read_of[name]) for name, bad in self.bad_of.items())
        return tuple((name, bad, rows) for name, bad, rows in counts if 2 * bad > rows)

    @property
    def unverified(self) -> int:
        """Bad rows whose truth could not be verified in time."""
        return sum(bad.unverified for bad in self.bad)


class ItemStream:
    """Iterating gives every item in order, the same at each pass; ``account`` is of the last pass that came to its end.

    A pass over bad rows raises DataError at its end, with all of them, unless ``bad_rows`` is skip. Two classes with
    one normalised name always raise: skipping rows would drop a class, or train on two as one.
    """

    def __init__(self, config: DataConfig, read_truth: ReadTruth, base: Path = Path(), *, quiet: bool = False) -> None:
        """``quiet``: what was repaired and left out is for the caller to tell, from ``account``."""
        self.config = config
        self.read_truth = read_truth
        self.base = base
        self.account = Pass()
        self.roots: set[Path] = set()
        self._labels: dict[Path, str] = {}
        self._recent: OrderedDict[str, StoredImage] = OrderedDict()  # by its place
        # Image -> size, hash of its content, fingerprint where one was taken.
        self._known: dict[int, tuple[tuple[int, int], bytes, Fingerprint | None]] = {}
        # Made by the first pass, where the recipe names no rows of these splits.
        self._test: ValidationSplit | None = None
        self._validation: ValidationSplit | None = None
        self._told = quiet

    def __iter__(self) -> Iterator[Item]:
        if self.config.kind == "shapes":
            from curr_reft.data.shapes import drawn_items

            shapes = self.config.shapes
            for split in SPLITS:
                counts = {str(task): count for task, count in getattr(shapes, split).items()}
                yield from drawn_items(shapes.seed, split, counts)
            return
        if self.config.kind == "points":
            from curr_reft.data.points import points_items

            for split in SPLITS[: SPLITS.index("general")]:  # hands of cards are all there is
                yield from points_items(self.config.points, split)
            return
        files, perceptual = self.config.files, self.config.leaks == "perceptual"
        if files.test_fraction is not None and self._test is None:
            self._test = ValidationSplit(_Rows(self), files.test_fraction, files.seed, perceptual, name="test")
        if not files.validation and self._validation is None:
            self._validation = ValidationSplit(_Rows(self), files.validation_fraction, files.seed, perceptual)
        for item in self._rest():
            taken = self._validation is not None and self._validation.takes(item)
            yield replace(item, split="validation") if taken else item

    def _rest(self) -> Iterator[Item]:
        """All items, those that are split off for the test in their split."""
        for item in self._rows():
            yield replace(item, split="test") if self._test is not None and self._test.takes(item) else item

    def _rows(self) -> Iterator[Item]:
        reading = Pass()
        with progress("reading rows") as advance:
            for split in SPLITS:
                for entry in getattr(self.config.files, split):
                    for item in self._entry_items(entry, split, reading):
                        yield item
                        advance()
        self._report(reading)
        self.account = reading

    def _entry_items(self, entry: FileEntry, split: str, reading: Pass) -> Iterator[Item]:
        refuse_address(entry.path)
        path = self.base / Path(entry.path).expanduser()
        if entry.is_composition:
            key = "train_datasets" if split == "train" else "val_datasets"
            for json_path, amount in composition(path, entry.path, key):
                inner = entry.model_copy(update={"path": str((path.parent / json_path).absolute()), "sampling": amount})
                if inner.is_composition:
                    raise DataError(entry.path, f"{key}: {json_path} is a composition too; list its files here")
                try:
                    yield from self._entry_items(inner, split, reading)
                except ValueError as error:
                    raise DataError(entry.path, f"{key}: {error}") from error
            return
        label = self._label(path)
        if entry.image_root is not None:
            root = self.base / Path(entry.image_root).expanduser()
        else:
            root = path if path.is_dir() else path.parent
        if not root.is_dir():
            raise DataError(label, f"image_root {root} is not a folder")
        self.roots.add(root.resolve())
        # What a loader is told chooses the rows it gives: the same place means another row under other options.
        reads = (path, entry.format, entry.task, tuple(sorted(entry.options.items())))
        given = reading.given.setdefault(reads, bytearray())
        for index, row in self._picked(path, label, entry, split, root):
            given.extend(bytes(max(0, index + 1 - len(given))))
            item = self._checked(row, entry, split, root, reading)
            reading.read_of[label] += 1
            if item is None:
                reading.bad_of[label] += 1
                continue
            before, mark = given[index], 1 + SPLITS.index(split)
            if not before:
                given[index] = mark
                yield item
            elif before == mark or (split == "pool" and self.config.leaking_rows == "skip"):
                reading.repeated += 1  # the pool is read last, and loses what any other split has
            else:
                raise DataError(
                    item.source, f"stands in {SPLITS[before - 1]} and in {split}; a row may be in one split"
                )

    def _picked(
        self, path: Path, label: str, entry: FileEntry, split: str, root: Path
    ) -> Iterator[tuple[int, RowOrBad]]:
        """The rows that the entry's sampling takes, with their place in the file. Raises DataError."""
        loader = LOADERS[entry.format]
        told = LoaderEntry(
            path=path,
            name=label,
            task=entry.task,
            columns=entry.columns,
            options={key: _option_text(value) for key, value in entry.options.items()},
            image_root=root,
            seed=self.config.files.seed,
        )
        sampling = Sampling.parse(entry.sampling)
        leading = sampling.leading
        count = sum(1 for _ in islice(loader.rows(told), 1 if leading else None))
        if not count:
            raise DataError(label, "holds no rows")
        if leading:
            yield from enumerate(islice(loader.rows(told), leading))
            return
        picked = iter(sampling.pick(count, stream(self.config.files.seed, "sampling", split, path.name)))
        wanted = next(picked, None)
        for index, row in enumerate(loader.rows(told)):
            if index == wanted:
                wanted = next(picked, None)
                yield index, row
        if wanted is not None:
            raise DataError(label, "changed while it was read; wait until it is written, then try again")

    def _checked(self, row: RowOrBad, entry: FileEntry, split: str, root: Path, reading: Pass) -> Item | None:
        """The item of a row, or None for a bad one, which is noted."""
        if isinstance(row, BadRow):
            reading.bad.append(row)
            return None
        try:
            return self._item(row, entry, split, root, reading)
        except DataError as error:
            reading.bad.append(BadRow(row.source, error.reason))
        except ValueError as error:
            unverified = isinstance(error, UnverifiedTruthError)
            reading.bad.append(BadRow(row.source, str(error), unverified=unverified))
        return None

    def _item(self, row: Row, entry: FileEntry, split: str, root: Path, reading: Pass) -> Item:
        """Raises ValueError or DataError with the reason."""
        fields = read_fields(row.fields, entry.task)
        task = fields.task or entry.task
        if task is None:
            raise ValueError("names no task; add the key task to the row, or task to the entry of the recipe")
        answer, distractors = fields.answer, fields.distractors
        if row.boxes is not None and entry.box_format is not None:
            raise ValueError(
                f"box_format {entry.box_format} does not apply: the format says what its boxes are; remove the key"
            )
        if task in BOX_TASKS and row.boxes is None:
            if entry.box_format is None and (inverted := inverted_as_corners(answer)):
                raise ValueError(
                    f"{inverted} is empty, inverted or not finite as two corners, and a box as x, y, width, height; "
                    "set box_format (xywh or cxcywh) on the entry of the recipe"
                )
            answer = as_corners(answer, entry.box_format)
            distractors = tuple(as_corners(raw, entry.box_format) for raw in distractors)
        truths = [self._truth(task, answer)]
        truths += [self._truth(task, raw, "distractor") for raw in distractors]
        images = tuple(self._image(root, _without_prefix(image, entry), row.source) for image in fields.images)
        if fields.image_size and images and images[0].size != fields.image_size:
            raise ValueError(
                f"its boxes are in pixels of {_by(fields.image_size)}, but the image has {_by(images[0].size)}; "
                "is it resized, turned by its EXIF data, or another one?"
            )
        if boxes_of(truths[0]):
            if not images:
                raise ValueError("has a box and no image")
            size = images[0].size
            truths = [
                map_boxes(truth, lambda box: _box_in_pixels(box, size, row.boxes or entry.boxes)) for truth in truths
            ]
        for name in (name for truth in truths if isinstance(truth, tuple) for name in truth if isinstance(name, Name)):
            spellings = reading.spellings.setdefault((task, str(name)), {})
            spellings.setdefault(name.key, (name.spelling, row.source))
        truths = [_without_spellings(truth) for truth in truths]
        reading.repaired += bool(fields.repairs)
        reading.repairs.update(fields.repairs)
        return Item(
            id=row.source,
            task=task,
            question=fields.question,
            truth=truths[0],
            images=images,
            split=split,
            source=row.source,
            domain=fields.domain or entry.domain or task,
            distractors=tuple(truths[1:]),
        )

    def _truth(self, task: str, raw: Any, what: str = "truth") -> Truth:
        try:
            return self.read_truth(task, raw)
        except KeyError:
            raise ValueError(
                f"task {task!r} is not known; docs/grading.md lists the tasks, and the recipe's key tasks names yours"
            ) from None
        except UnverifiedTruthError as error:
            raise UnverifiedTruthError(f"{what} of {task}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{what} of {task}: {error}") from error

    def _image(self, root: Path, image: str | StoredImage, source: str) -> StoredImage:
        """Shared between rows, so that each image is checked and hashed once."""
        place = f"{root}\0{image}" if isinstance(image, str) else image.place
        known_image = self._recent.get(place)
        if known_image is not None:
            self._recent.move_to_end(place)
            return known_image
        if isinstance(image, str):
            image = FileImage(root, image, max_pixels_cap=self.config.max_pixels, source=source)
        else:
            image = replace(image, max_pixels_cap=self.config.max_pixels, source=source)
        name = int.from_bytes(hashlib.blake2b(place.encode(), digest_size=8).digest(), "big")
        known = self._known.get(name)
        if known is not None:
            image.recall(known[0], known[1].hex(), known[2])
        else:
            found = None
            # The fingerprint of the leak check needs the pixels as well: they are decoded once for both.
            if self.config.check_images == "decode":
                if self.config.leaks == "perceptual":
                    found = image.fingerprint
                else:
                    image.open()
            image.check()
            self._known[name] = (image.size, bytes.fromhex(image.key), found)
        self._recent[place] = image
        if len(self._recent) > RECENT_IMAGES:
            self._recent.popitem(last=False)
        return image

    def _label(self, path: Path) -> str:
        """The file as messages and ids name it: its name, made different where two files share one."""
        if path not in self._labels:
            taken = sum(other.name == path.name for other in self._labels)
            self._labels[path] = path.name if not taken else f"{path.name}~{taken + 1}"
        return self._labels[path]

    def _report(self, reading: Pass) -> None:
        told, self._told = self._told, True  # a second pass meets the same rows
        if reading.repaired and not told:
            kinds = "; ".join(f"{count}: {what}" for what, count in sorted(reading.repairs.items()))
            log.warning("%d rows with typos of the reference data were repaired (%s)", reading.repaired, kinds)
        if reading.repeated and not told:
            log.warning("%d rows are listed more than once and were kept once", reading.repeated)
        collapsed = [
            _collapsed(name, *spellings.values())
            for (_, name), spellings in reading.spellings.items()
            if len(spellings) > 1
        ]
        if collapsed:
            others = [(bad.source, bad.reason) for bad in reading.bad if self.config.bad_rows != "skip"]
            raise DataError(*collapsed[0], (*collapsed, *others))
        if not reading.bad:
            return
        shown = [f"{bad.source}: {bad.reason}" for bad in reading.bad[:SHOWN_PROBLEMS]]
        more = f"\n... and {len(reading.bad) - len(shown)} more bad rows" if len(reading.bad) > len(shown) else ""
        if self.config.bad_rows == "skip":
            if not told:
                log.warning("%d bad rows were left out:\n%s%s", len(reading.bad), "\n".join(shown), more)
                if reading.mostly_bad:
                    log.warning("%s", what_to_do_about_rows(reading.mostly_bad))
                if reading.unverified:
                    log.warning(
                        "of them, the truths of %d could not be verified in time and may be right: read the rows again "
                        "on a machine that is less busy, or raise rewards.math.timeout (of your own task: its timeout)",
                        reading.unverified,
                    )
            return
        first = reading.bad[0]
        text = "\n".join([first.reason, *shown[1:]]) + more
        raise DataError(
            first.source,
            f"{text}\n{what_to_do_about_rows(reading.mostly_bad)}",
            tuple((bad.source, bad.reason) for bad in reading.bad),
        )


def what_to_do_about_rows(mostly_bad: Sequence[tuple[str, int, int]]) -> str:
    """The remedy for bad rows. Of a file that is mostly bad, its entry is wrong and not its rows: leaving them out
    would hide that."""
    if not mostly_bad:
        return "repair them, or set data.bad_rows: skip to go on without them"
    counts = ", ".join(f"{bad:,} of {rows:,} rows of {name}" for name, bad, rows in mostly_bad[:3])
    more = f" and {len(mostly_bad) - 3} more files" if len(mostly_bad) > 3 else ""
    return (
        f"{counts}{more} are bad. When most rows are bad, the entry of the recipe reads the file wrongly, or it is "
        "another file: check its path, format, columns, boxes and box_format. Do not skip these rows"
    )


class _Rows:
    """The rows of a stream, as often as they are asked for, before validation is split off."""

    def __init__(self, stream: ItemStream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Item]:
        return self.stream._rest()


def _without_spellings(truth: Truth) -> Truth:
    names = [str(name) for name in truth if isinstance(name, str)] if isinstance(truth, tuple) else []
    return tuple(names) if names else truth


def _collapsed(name: str, *spelled: tuple[str, str]) -> tuple[str, str]:
    """Where two classes have one name: (file:line, reason) of the second."""
    (first, first_source), (second, second_source) = spelled[:2]
    return second_source, (
        f"the class {second!r} and the class {first!r} ({first_source}) are both compared as {name!r}, and an answer "
        "with either would count for both. Spell them alike if they are one class; else rename one, so that they "
        "differ in more than case, brackets and punctuation"
    )


def _without_prefix(image: str | StoredImage, entry: FileEntry) -> str | StoredImage:
    """A path relative to the image root, where the rows give paths of another machine. Raises ValueError."""
    if not entry.image_prefix or not isinstance(image, str):
        return image
    prefix = entry.image_prefix.replace("\\", "/")
    if not image.startswith(prefix):
        raise ValueError(f"image path {image!r} does not begin with image_prefix {entry.image_prefix!r}")
    return image.removeprefix(prefix).lstrip("/")


def _option_text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _box_in_pixels(truth: Box, size: tuple[int, int], unit: FrameKind) -> Box:
    """``truth`` in pixels of its image, cut at the edge. Raises ValueError when it is not a box inside the image."""
    box = BoxFrame(unit).to_original(truth, size) if unit != "pixels" else truth
    width, height = size
    x1, y1, x2, y2 = box
    if min(x1, y1) < -OUTSIDE_BY or x2 > width + OUTSIDE_BY or y2 > height + OUTSIDE_BY:
        raise ValueError(
            f"box {list(truth)} lies outside its image of {width}x{height} pixels; is it given in other units? "
            "Set boxes on the entry of the recipe"
        )
    if unit == "pixels" and max(x2, y2) <= 1 < min(width, height):
        raise ValueError(
            f"box {list(truth)} lies in the first pixel of its image of {width}x{height}; if boxes are given as "
            "fractions of the image, set boxes: unit on the entry of the recipe"
        )
    box = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"box {list(truth)} is empty")
    return box
