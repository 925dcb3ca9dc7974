"""YOLO: a text file of boxes for each picture, in the layouts of Ultralytics, Roboflow, Label Studio and CVAT.

``images/train/a.jpg`` has its boxes in ``labels/train/a.txt`` (the last ``images`` of the path becomes ``labels``), or
beside it. A line is ``class x y width height``, the centre and the sides as fractions of the picture, or ``class x1 y1
x2 y2 x3 y3 ...``, a polygon, of which the upright box is taken. The classes are ``names`` of ``data.yaml`` (or of
another YAML file of the folder, or of the folder above), or the lines of ``classes.txt`` or ``obj.names``. A picture
without a label file is background, as for Ultralytics.
"""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from curr_reft.data.loaders import LoaderEntry, nearest
from curr_reft.data.loaders.objects import SUFFIXES, AnnotatedPicture, PictureOrBad, Thing, object_rows, outline
from curr_reft.data.rows import BadRow, RowOrBad
from curr_reft.errors import DataError

NAME_FILES = ("classes.txt", "obj.names", "classes.names")
OTHER_TEXTS = frozenset(
    (*NAME_FILES, "train.txt", "val.txt", "valid.txt", "test.txt", "README.txt", "predefined_classes.txt")
)
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_CVAT = {"obj_train_data": "train", "obj_Train_data": "train", "obj_valid_data": "val", "obj_Validation_data": "val",
         "obj_test_data": "test", "obj_Test_data": "test"}  # fmt: skip


def is_yolo(folder: Path) -> bool:
    """Return whether a folder has this layout: a description with names, or label files."""
    if description(folder) is not None or (folder / "obj.names").is_file():
        return True
    labels = folder / "labels"
    return labels.is_dir() and any(path.name not in OTHER_TEXTS for path in labels.rglob("*.txt"))


def description(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The YAML file of a folder that names classes, ``data.yaml`` first, and what it holds."""
    for path in sorted(folder.glob("*.y*ml"), key=lambda each: (each.stem not in ("data", "dataset"), each.name)):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(content, dict) and "names" in content and {"train", "val", "test", "nc", "path"} & set(content):
            return path, content
    return None


def rows(entry: LoaderEntry) -> Iterator[RowOrBad]:
    """One row a category or picture. Options: ``split``, ``classes``, ``categories``. Raises DataError."""
    if not entry.path.is_dir():
        raise DataError(
            entry.name, f"{entry.path} is not a folder; give the one that holds data.yaml, images and labels"
        )
    found = description(entry.path) or description(entry.path.parent)
    names = _names(entry, found)
    pictures = _pictures(entry, found)
    keypoints = bool(found and found[1].get("kpt_shape"))
    return object_rows(entry, lambda: _read(entry, pictures, names, keypoints), list(names.values()))


def _read(entry: LoaderEntry, pictures: list[Path], names: dict[int, str], keypoints: bool) -> Iterator[PictureOrBad]:
    folders, labelled = set(), set()
    for picture in pictures:
        path = entry.path / picture
        label = _label(path)
        folders.add(label.parent)
        source = f"{entry.name}/{label.relative_to(entry.path).as_posix()}"
        if label in labelled:
            yield BadRow(source, f"labels several pictures of one name, {picture.as_posix()} too; rename or remove one")
        elif label.is_file():
            labelled.add(label)
            yield _picture(picture, label, source, names, keypoints)
    texts = [each for folder in sorted(folders) if folder.is_dir() for each in sorted(folder.glob("*.txt"))]
    stray = [each for each in texts if each not in labelled and each.name not in OTHER_TEXTS]
    if not labelled:
        where = ", ".join(str(folder.relative_to(entry.path)) for folder in sorted(folders)[:3])
        raise DataError(
            entry.name, f"{len(pictures)} pictures and none with a label file; they were looked for in {where}"
        )
    for each in stray:
        yield BadRow(f"{entry.name}/{each.relative_to(entry.path).as_posix()}", "labels a picture that is not there")


def _label(picture: Path) -> Path:
    """Where the boxes of a picture stand."""
    parts = list(picture.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
        label = Path(*parts).with_suffix(".txt")
        if label.is_file() or not picture.with_suffix(".txt").is_file():
            return label
    return picture.with_suffix(".txt")


def _picture(picture: Path, label: Path, source: str, names: dict[int, str], keypoints: bool) -> PictureOrBad:
    things: dict[
        tuple[int, tuple[float, ...]], Thing
    ] = {}  # a line that stands twice is one object, as for Ultralytics
    try:
        lines = label.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return BadRow(source, f"cannot be read: {error}")
    for number, line in enumerate(lines, start=1):
        if not line.split():
            continue
        try:
            category, box = _object(line.split(), keypoints)
            if category not in names:
                raise ValueError(f"class {category} is none of the {len(names)} classes (0 to {max(names)})")
        except ValueError as error:
            return BadRow(f"{source}:{number}", str(error))
        area = (box[2] - box[0]) * (box[3] - box[1])
        things[category, tuple(box)] = Thing(name=names[category], box=box, area=area)
    return AnnotatedPicture(source=source, image=picture.as_posix(), things=list(things.values()), unit="unit")


def _object(words: list[str], keypoints: bool) -> tuple[int, list[float]]:
    """Class and box of a line. Raises ValueError."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(
            f"must be numbers between blanks: class x y width height, not {' '.join(words)[:60]!r}"
        ) from None
    if not all(map(math.isfinite, values)) or values[0] != int(values[0]):
        raise ValueError(f"must begin with a whole number, its class, not {' '.join(words)[:60]!r}")
    rest = values[1:5] if keypoints else values[1:]
    if len(rest) == 5:
        raise ValueError("has 6 numbers; is the last a confidence? Predictions are no labels: save them without")
    if len(rest) < 4 or len(rest) % 2:
        raise ValueError(f"has {len(values)} numbers; it must be class x y width height, or class and a polygon")
    if any(not -0.005 <= value <= 1.005 for value in rest):
        raise ValueError(f"{[round(value, 4) for value in rest[:6]]} must be fractions of the picture, from 0 to 1")
    if len(rest) > 4:
        return int(values[0]), outline(zip(rest[::2], rest[1::2], strict=True))
    x, y, width, height = rest
    return int(values[0]), [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _names(entry: LoaderEntry, found: tuple[Path, dict[str, Any]] | None) -> dict[int, str]:
    """Number -> class. Raises DataError."""
    if "classes" in entry.options:
        return dict(enumerate(name.strip() for name in entry.options["classes"].split(",")))
    if found is not None:
        path, names = found[0].name, found[1]["names"]
        if isinstance(names, list) and names:
            names = dict(enumerate(names))
        if not isinstance(names, dict) or not names or not all(type(key) is int for key in names):
            raise DataError(f"{entry.name}/{path}", "names must be a list of classes, or number: class")
        return {key: str(name).strip() for key, name in names.items()}
    for name in NAME_FILES:
        for folder in (entry.path, entry.path / "labels", entry.path.parent):
            if (folder / name).is_file():
                lines = (folder / name).read_text(encoding="utf-8-sig").splitlines()
                return dict(enumerate(line.strip() for line in lines if line.strip()))
    raise DataError(
        entry.name,
        "the names of its classes are not there: put data.yaml or classes.txt beside images and labels, or set "
        'options.classes to "cat, dog" (0 is the first)',
    )


def _pictures(entry: LoaderEntry, found: tuple[Path, dict[str, Any]] | None) -> list[Path]:
    """The pictures of the entry's split, relative to its folder. Raises DataError."""
    splits = _described(entry.path, found) if found else {}
    splits = {**_by_folder(entry.path), **splits}
    wanted = entry.options.get("split")
    if wanted is None and len(splits) > 1:
        raise DataError(entry.name, f"holds the splits {', '.join(splits)}; name one (options.split)")
    if wanted is not None:
        name = next((split for split, others in _SPLITS.items() if wanted in others), wanted)
        if name not in splits:
            raise DataError(entry.name, f"option split: there is no {wanted!r}; {nearest(wanted, splits)}")
        places = splits[name]
    else:
        inner = entry.path / "images"
        places = next(iter(splits.values()), [inner if inner.is_dir() else entry.path])
    pictures: list[Path] = []
    for place in places:
        if place.is_file():  # a list of pictures
            pictures += _listed(entry, place)
        else:
            pictures += [path for path in sorted(place.rglob("*")) if path.suffix.lower() in SUFFIXES]
    root = entry.path.resolve()
    outside = next((path for path in pictures if not path.resolve().is_relative_to(root)), None)
    if outside is not None:
        raise DataError(entry.name, f"its pictures lie outside of it ({outside}); give the folder above both")
    if not pictures:
        raise DataError(entry.name, f"holds no picture in {', '.join(map(str, places))}")
    return [path.resolve().relative_to(root) for path in dict.fromkeys(pictures)]


def _described(folder: Path, found: tuple[Path, dict[str, Any]]) -> dict[str, list[Path]]:
    """Split -> folders or lists of pictures that ``data.yaml`` names and that are there. What it names on another
    machine is left to the names of folders."""
    path, content = found
    home = path.parent
    above = home / str(content["path"]) if isinstance(content.get("path"), str) else home
    splits: dict[str, list[Path]] = {}
    for split, names in _SPLITS.items():
        given = next((content[name] for name in names if content.get(name)), None)
        values = [each for each in (given if isinstance(given, list) else [given]) if isinstance(each, str)]
        for value in values:
            # Roboflow writes ../train/images and means train/images.
            bare = str(PurePosixPath(*[part for part in PurePosixPath(value).parts if part != ".."]))
            tries = (home / bare if value.startswith("..") else above / value, above / value, home / value, home / bare)
            place = next(
                (each for each in tries if each.exists() and each.resolve().is_relative_to(folder.resolve())), None
            )
            if place is not None and place.resolve() not in [each.resolve() for each in splits.get(split, [])]:
                splits.setdefault(split, []).append(place)
    return splits


def _by_folder(folder: Path) -> dict[str, list[Path]]:
    """Split -> folders, by the names that folders have."""
    splits: dict[str, list[Path]] = {}
    for split, names in _SPLITS.items():
        places = [folder / "images" / name for name in names] + [folder / name / "images" for name in names]
        places += [folder / name for name, of in _CVAT.items() if of == split]
        there = list(dict.fromkeys(place for place in places if place.is_dir()))
        if there:
            splits[split] = there[:1]
    return splits


def _listed(entry: LoaderEntry, path: Path) -> list[Path]:
    """The pictures that a text file lists, relative to it or, as CVAT writes them, below a folder data. Raises
    DataError for one that is not there."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        text = line.strip().replace("\\", "/").removeprefix("./")
        if not text:
            continue
        tries = (path.parent / text, entry.path / text, entry.path / text.removeprefix("data/"))
        picture = next((each for each in tries if each.is_file()), None)
        if picture is None:
            raise DataError(f"{entry.name}/{path.name}:{number}", f"the picture {text!r} is not there")
        found.append(picture)
    return found
