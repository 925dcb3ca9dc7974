"""The table of row formats: which file of this folder reads which layout.

A loader reads one entry of a recipe (a file or a folder) as a stream and gives every row in the style of the reference
data set, so that one place (``styles.py``, ``stream.py``) checks tasks, truths, boxes and images for all of them. A new
format is one file with ``rows(entry)`` and one line in ``LOADERS``. This file imports no loader before it is asked to
read: a recipe is checked with the table alone.
"""

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curr_reft.data.rows import RowOrBad

COLUMNS = ("question", "answer", "image", "task", "domain", "distractors", "category")
"""What a recipe may name the columns of, where the format leaves their names to the user."""


@dataclass(frozen=True, kw_only=True)
class LoaderEntry:
    """What a loader is told about the file or folder it reads."""

    path: Path
    name: str  # the file as messages name it
    task: str | None = None  # task of rows that name none
    columns: Mapping[str, str] = field(default_factory=dict)  # one of COLUMNS -> the name it has in the file
    options: Mapping[str, str] = field(default_factory=dict)  # of the format, checked against ``Loader.options``
    image_root: Path | None = None  # folder that paths of pictures are relative to; None: that of the file
    seed: int = 0  # for what a loader draws; a row must be the same at every pass

    @property
    def pictures(self) -> Path:
        """The folder that paths of pictures are relative to."""
        return self.image_root or (self.path if self.path.is_dir() else self.path.parent)


@dataclass(frozen=True, kw_only=True)
class Loader:
    """A format. The module holds ``rows(entry: LoaderEntry) -> Iterator[Row | BadRow]``, which gives the same rows in
    the same order at every call, keeps none of them, and raises DataError for what no row can be named for.

    The ``fields`` of a row are in the reference style: ``problem``, ``solution``, ``task``, ``image`` or ``images``
    (paths under the image root, or ``images.StoredImage`` objects made by the loader), ``distractors``, ``domain``.
    """

    module: str  # of this folder
    about: str  # one line, for docs and messages
    options: Mapping[str, str] = field(default_factory=dict)  # key -> what it says
    columns: bool = False  # whether the recipe may name columns
    objects: bool = False  # boxes of named objects, of which several questions can be asked: the entry names the task

    def rows(self, entry: LoaderEntry) -> Iterator["RowOrBad"]:
        read = importlib.import_module(f"{__name__}.{self.module}").rows
        found: Iterator[RowOrBad] = read(entry)
        return found


_LISTED = "listed (default): the question lists all categories; open: it does not"
_REFER = {
    "split": "of refs(...).p: train, val, test, testA or testB, as the file has them",
    "sentences": "all (default) or first: how many of an object's expressions are asked",
    "instances": "the file with the boxes, beside refs(...).p; instances.json by default",
    "categories": _LISTED,
}
_CLEVR = {
    "answers": "of questions: counts (default), yes_no or all",
    "ask": "of scenes: total (default), color, shape, size or material",
    "images": "first and last image_index, as 25000-29999; all by default",
}

LOADERS: dict[str, Loader] = {
    "auto": Loader(module="auto", about="told by the suffix of the file and the keys of its rows", columns=True),
    "reference": Loader(module="reference", about="rows with problem, solution, task, image: the reference data set"),
    "trl": Loader(module="trl", about="TRL: prompt (text or messages), images, solution or answer or ground_truth"),
    "easyr1": Loader(module="easyr1", about="EasyR1: problem, answer, images"),
    "swift": Loader(module="swift", about="ms-swift: messages or query, images, solution, objects"),
    "llamafactory": Loader(
        module="llamafactory",
        about="LLaMA-Factory: alpaca and sharegpt, as the dataset_info.json beside the file says",
        options={"dataset": "name in dataset_info.json; empty: the one whose file_name is this file"},
    ),
    "table": Loader(
        module="table",
        about="CSV, TSV or JSON rows whose columns the recipe names",
        options={
            "question": "the question of every row, where no column holds one",
            "delimiter": "comma, semicolon, tab or bar; empty: the one that occurs most in the header",
            "encoding": "of a CSV file, as Python names it (cp1252, gb18030); empty: utf-8, or utf-16 by its mark",
            "categories": _LISTED,
        },
        columns=True,
    ),
    "parquet": Loader(
        module="parquet",
        about="parquet files or folders of shards as on the Hugging Face hub, pictures inside",
        options={
            "split": "of a folder of shards: the part of their names before -00000-of-00004, or their folder",
            "style": "reference, trl, easyr1, swift or llamafactory, where the columns could be several",
            "question": "the question of every row, where no column holds one",
        },
        columns=True,
    ),
    "arrow": Loader(
        module="arrow",
        about="a folder that datasets.save_to_disk wrote, pictures inside",
        options={
            "split": "of a folder of several: train, test, ...",
            "style": "reference, trl, easyr1, swift or llamafactory, where the columns could be several",
            "question": "the question of every row, where no column holds one",
        },
        columns=True,
    ),
    "imagefolder": Loader(
        module="imagefolder",
        about="a folder of pictures in folders of their classes, or with metadata.csv or metadata.jsonl",
        options={"question": "asked of every picture that no metadata describes"},
        columns=True,
    ),
    # What label tools export.
    "yolo": Loader(
        module="yolo",
        about="YOLO: images, labels and data.yaml (Ultralytics, Roboflow, Label Studio, CVAT)",
        options={
            "split": "train, val or test, where the folder holds several",
            "classes": "the class names with commas between, where neither data.yaml nor classes.txt has them",
            "categories": _LISTED,
        },
        objects=True,
    ),
    "label_studio": Loader(
        module="label_studio",
        about="Label Studio: its JSON or JSON-MIN export",
        options={
            "annotations": "of a task with several: one (default: refused), first or last",
            "image": "the key of a task's data that holds the picture, where there are several",
            "categories": _LISTED,
        },
        objects=True,
    ),
    "cvat": Loader(
        module="cvat", about="CVAT for images 1.1: annotations.xml", options={"categories": _LISTED}, objects=True
    ),
    "labelme": Loader(
        module="labelme",
        about="labelme: a JSON file beside each picture",
        options={"categories": _LISTED},
        objects=True,
    ),
    "labelimg": Loader(
        module="labelimg",
        about="XML files of Pascal VOC beside the pictures or apart from them (labelImg, Roboflow)",
        options={
            "difficult": "skip (default) or keep objects that are marked as difficult",
            "categories": _LISTED,
        },
        objects=True,
    ),
    "roboflow_csv": Loader(
        module="roboflow_csv",
        about="a row a box: filename, width, height, class, xmin, ymin, xmax, ymax (Roboflow, TensorFlow)",
        options={"categories": _LISTED},
        objects=True,
    ),
    # Published data sets; where to get each, its licence and its tree: docs/datasets.md.
    "coco": Loader(
        module="coco",
        about="COCO instances: where is the X, which categories, where are all the X",
        options={
            "min_area": "smallest area in pixels of an object that is asked for; 0: any",
            "categories": _LISTED,
        },
        objects=True,
    ),
    "refcoco": Loader(
        module="refcoco", about="RefCOCO, RefCOCO+, RefCOCOg: REFER, MDETR, JSON lines, tables", options=_REFER
    ),
    "refgta": Loader(module="refer", about="RefGTA, in the layout of REFER", options=_REFER),
    "voc": Loader(
        module="voc",
        about="Pascal VOC: a year's folder with Annotations and ImageSets",
        options={
            "split": "a list under ImageSets/Main: train, val, trainval, test",
            "difficult": "skip (default) or keep objects that are marked as difficult",
            "categories": _LISTED,
            "classes": "your own class names with commas between, for other data in this layout",
        },
        objects=True,
    ),
    "clevr": Loader(module="clevr", about="CLEVR: questions or scenes", options=_CLEVR),
    "super_clevr": Loader(
        module="clevr", about="Super-CLEVR: questions, scenes, or R1-V's 200 counting ones", options=_CLEVR
    ),
    "geo170k": Loader(module="geo170k", about="Geo170K: geometry questions with worked solutions"),
    "mathv360k": Loader(module="mathv360k", about="MathV360K: questions on figures of 24 data sets"),
    "llava_cot": Loader(module="llava_cot", about="LLaVA-CoT-100k: general questions whose conclusion is short"),
    "geometry3k": Loader(
        module="geometry3k",
        about="Geometry3K: a folder for each problem",
        options={
            "answer": "letter (default): choices are listed; value: the value of the right choice",
            "logic_forms": "omit (default) or add what the diagram shows, in words, to the question",
        },
    ),
    "science_qa": Loader(
        module="science_qa",
        about="ScienceQA: problems.json, pid_splits.json and images",
        options={
            "split": "train, val, trainval, test, minival or minitest",
            "images": "all (default), only or none: questions with, only with or without a picture",
            "context": "hint (default), lecture (and hint) or none, before the question",
        },
    ),
    "geomverse": Loader(module="geomverse", about="GeomVerse: generated geometry"),
    "visual7w": Loader(module="visual7w", about="Visual7W, telling questions", options={"split": "train, val or test"}),
    "vsr": Loader(module="vsr", about="VSR: is a caption true of its image"),
}
"""``format`` of an entry -> how it is read."""


def nearest(wrong: str, valid: Iterable[str]) -> str:
    """The way out for a misspelt name: the nearest valid one, else all of them."""
    names = sorted(valid)
    near = difflib.get_close_matches(wrong, names, 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"valid: {', '.join(names) or 'none'}"
