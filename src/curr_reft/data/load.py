"""The items of a recipe: drawn, or read from files with every row checked.

Loading either gives items whose truths were read by their own task and whose images can be opened, or says which rows
are wrong and why. It never replaces a row by another one. What a truth is, tasks know; ``read_truth`` is handed in.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from curr_reft.data.config import DataConfig, FileEntry
from curr_reft.data.frame import BoxFrame, is_box
from curr_reft.data.images import FileImage
from curr_reft.data.item import Box, Item, Truth
from curr_reft.data.rows import BadRow, Row, composition, raw_rows
from curr_reft.data.sampling import Sampling
from curr_reft.data.styles import read_fields
from curr_reft.errors import DataError
from curr_reft.seeding import derive_seed, stream

ReadTruth: TypeAlias = Callable[[str, Any], Truth]
"""``read_truth(task, raw)``: the truth of a row. Raises ValueError with a reason, KeyError for an unknown task."""

SPLITS = ("train", "validation", "test", "ood_test")
SHOWN_PROBLEMS = 10
OUTSIDE_BY = 1.0  # pixels a box may reach over the edge of its image (rounding of the annotators) before it is refused

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedData:
    """The items of every split and what was met on the way."""

    items: tuple[Item, ...]
    skipped: tuple[tuple[str, str], ...] = ()  # (file:line, reason) of bad rows left out
    repaired: int = 0  # rows whose answer tag lacked its first "<"
    repeated: int = 0  # rows listed twice in one split, kept once

    def split(self, name: str) -> list[Item]:
        return [item for item in self.items if item.split == name]

    def account(self) -> dict[str, Any]:
        """Counts for the data card of the run."""
        counts: dict[str, dict[str, int]] = {}
        for item in self.items:
            tasks = counts.setdefault(item.split, {})
            tasks[item.task] = tasks.get(item.task, 0) + 1
        reasons = [f"{source}: {reason}" for source, reason in self.skipped[:SHOWN_PROBLEMS]]
        return {
            "items": counts,
            "skipped_rows": len(self.skipped),
            "skipped_first": reasons,
            "repaired_rows": self.repaired,
            "repeated_rows": self.repeated,
        }


def load_data(config: DataConfig, read_truth: ReadTruth, base: Path = Path()) -> LoadedData:
    """All items of the recipe's data section. ``base`` is the folder relative paths start from (the recipe's).

    Raises DataError with every bad row in ``problems``, unless ``bad_rows`` is skip.
    """
    if config.kind == "shapes":
        from curr_reft.data.shapes import shapes_items

        shapes = config.shapes
        splits = (*SPLITS, "pool")
        counts = {split: {str(task): count for task, count in getattr(shapes, split).items()} for split in splits}
        return LoadedData(
            items=tuple(item for split in splits for item in shapes_items(shapes.seed, split, counts[split]))
        )
    return _Loader(config, read_truth, base).load()


class _Loader:
    """Reads the files of one recipe. Images are shared between rows, so that each is checked and hashed once."""

    def __init__(self, config: DataConfig, read_truth: ReadTruth, base: Path) -> None:
        self.config = config
        self.read_truth = read_truth
        self.base = base
        self.images: dict[tuple[Path, str], FileImage] = {}
        self.labels: dict[Path, str] = {}
        self.bad: list[BadRow] = []
        self.repaired = 0
        self.repeated = 0

    def load(self) -> LoadedData:
        items: dict[str, Item] = {}
        for split in (*SPLITS, "pool"):
            for entry in getattr(self.config.files, split):
                for item in self._entry_items(entry, split):
                    before = items.get(item.id)
                    if before is None:
                        items[item.id] = item
                    elif before.split == split:
                        self.repeated += 1
                    else:
                        raise DataError(
                            item.source, f"stands in {before.split} and in {split}; a row may be in one split"
                        )
        self._report()
        found = tuple(items.values())
        if not self.config.files.validation:
            found = split_validation(found, self.config.files.validation_fraction, self.config.files.seed)
        return LoadedData(
            items=found,
            skipped=tuple((bad.source, bad.reason) for bad in self.bad),
            repaired=self.repaired,
            repeated=self.repeated,
        )

    def _entry_items(self, entry: FileEntry, split: str) -> Iterator[Item]:
        path = self.base / Path(entry.path).expanduser()
        if entry.is_composition:
            key = "train_datasets" if split == "train" else "val_datasets"
            for json_path, amount in composition(path, entry.path, key):
                inner = entry.model_copy(update={"path": str((path.parent / json_path).absolute()), "sampling": amount})
                if inner.is_composition:
                    raise DataError(entry.path, f"{key}: {json_path} is a composition too; list its files here")
                try:
                    yield from self._entry_items(inner, split)
                except ValueError as error:
                    raise DataError(entry.path, f"{key}: {error}") from error
            return
        label = self._label(path)
        root = path.parent if entry.image_root is None else self.base / Path(entry.image_root).expanduser()
        if not root.is_dir():
            raise DataError(label, f"image_root {root} is not a folder")
        sampling = Sampling.parse(entry.sampling)
        raw = raw_rows(path, label)
        if not raw:
            raise DataError(label, "holds no rows")
        for index in sampling.pick(len(raw), stream(self.config.files.seed, "sampling", split, path.name)):
            row = raw[index].parse(label)
            if isinstance(row, BadRow):
                self.bad.append(row)
                continue
            try:
                yield self._item(row, entry, split, root)
            except DataError as error:
                self.bad.append(BadRow(row.source, error.reason))
            except ValueError as error:
                self.bad.append(BadRow(row.source, str(error)))

    def _item(self, row: Row, entry: FileEntry, split: str, root: Path) -> Item:
        """Raises ValueError or DataError with the reason."""
        fields = read_fields(row.fields)
        task = fields.task or entry.task
        if task is None:
            raise ValueError("names no task; add the key task to the row, or task to the entry of the recipe")
        truths = [self._truth(task, raw) for raw in (fields.answer, *fields.distractors)]
        images = tuple(self._image(root, path, row.source) for path in fields.images)
        if is_box(truths[0]):
            if not images:
                raise ValueError("has a box and no image")
            size = images[0].size
            truths = [_box_in_pixels(truth, size, entry) for truth in truths]
        self.repaired += fields.repaired
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

    def _truth(self, task: str, raw: Any) -> Truth:
        try:
            return self.read_truth(task, raw)
        except KeyError:
            raise ValueError(f"task {task!r} is not known; use detection, classification or math") from None
        except ValueError as error:
            raise ValueError(f"truth of {task}: {error}") from error

    def _image(self, root: Path, path: str, source: str) -> FileImage:
        image = self.images.get((root, path))
        if image is None:
            image = FileImage(root, path, self.config.max_pixels, source)
            if self.config.check_images == "decode":
                image.open()
            image.check()
            self.images[root, path] = image
        return image

    def _label(self, path: Path) -> str:
        """The file as messages and ids name it: its name, made different where two files share one."""
        if path not in self.labels:
            taken = sum(other.name == path.name for other in self.labels)
            self.labels[path] = path.name if not taken else f"{path.name}~{taken + 1}"
        return self.labels[path]

    def _report(self) -> None:
        if self.repaired:
            log.warning('%d rows lacked the first "<" of their answer tag; it was put back', self.repaired)
        if self.repeated:
            log.warning("%d rows are listed more than once in their split and were kept once", self.repeated)
        if not self.bad:
            return
        shown = [f"{bad.source}: {bad.reason}" for bad in self.bad[:SHOWN_PROBLEMS]]
        more = f"\n... and {len(self.bad) - len(shown)} more bad rows" if len(self.bad) > len(shown) else ""
        if self.config.bad_rows == "skip":
            log.warning("%d bad rows were left out:\n%s%s", len(self.bad), "\n".join(shown), more)
            return
        first = self.bad[0]
        text = "\n".join([first.reason, *shown[1:]]) + more
        raise DataError(
            first.source,
            f"{text}\nrepair them, or set data.bad_rows: skip to go on without them",
            tuple((bad.source, bad.reason) for bad in self.bad),
        )


def _box_in_pixels(truth: Truth, size: tuple[int, int], entry: FileEntry) -> Box:
    """``truth`` in pixels of its image, cut at the edge. Raises ValueError when it is not a box inside the image."""
    if not is_box(truth):
        raise ValueError(f"{truth!r} is not a box, and the truth is one")
    box = BoxFrame(entry.boxes).to_original(truth, size) if entry.boxes != "pixels" else truth
    width, height = size
    x1, y1, x2, y2 = box
    if min(x1, y1) < -OUTSIDE_BY or x2 > width + OUTSIDE_BY or y2 > height + OUTSIDE_BY:
        raise ValueError(
            f"box {list(truth)} lies outside its image of {width}x{height} pixels; is it given in other units? "
            "Set boxes on the entry of the recipe"
        )
    box = (max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"box {list(truth)} is empty")
    return box


def split_validation(items: tuple[Item, ...], fraction: float, seed: int) -> tuple[Item, ...]:
    """Moves about ``fraction`` of the training items of each task to validation.

    Items that share an image (or, without images, a question) move together, so that no picture is in both. Which
    ones move depends on their content and ``seed`` only, not on their order.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        if item.split == "train":
            groups.setdefault(item.images[0].key if item.images else item.question, []).append(item)
    tasks = Counter(item.task for group in groups.values() for item in group)
    wanted = {task: min(count - 1, max(1, round(count * fraction))) for task, count in tasks.items()}
    moved: set[str] = set()
    for key in sorted(groups, key=lambda key: derive_seed(seed, "validation", key)):
        group = groups[key]
        if all(wanted[item.task] > 0 for item in group):
            for item in group:
                wanted[item.task] -= 1
                moved.add(item.id)
    return tuple(replace(item, split="validation") if item.id in moved else item for item in items)
