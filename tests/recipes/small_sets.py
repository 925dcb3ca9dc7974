"""Every data set that a shipped recipe names, a few rows each, in its published tree (docs/datasets.md): for tests.

``write_sets(folder)`` fills ``folder`` as a person fills ``datasets/`` by downloads. Two things that are in the real
files are in these: solutions that announce no answer, and a figure of Geometry3K's test that Geo170K shows too.
"""

import json
import pickle
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
from PIL import Image
from pyarrow import parquet

from curr_reft.data.item import Item
from curr_reft.data.shapes import drawn_items

EACH = 4  # pictures of a training split
FEW = 3  # of any other
CATEGORIES = {1: "person", 18: "dog", 3: "car", 63: "couch"}


class Scenes:
    """Drawn pictures, no two of them alike, with the box of one thing in each."""

    def __init__(self) -> None:
        self._items: Iterator[Item] = iter(drawn_items(7, "train", {"detection": 200}))

    def save(self, path: Path) -> tuple[list[float], Image.Image]:
        """Writes the next one; its box [x, y, width, height] and the picture."""
        item = next(self._items)
        picture = item.images[0].open()
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        x1, y1, x2, y2 = item.truth
        return [float(x1), float(y1), float(x2 - x1), float(y2 - y1)], picture


def write_sets(folder: Path) -> None:
    scenes = Scenes()
    splits = {"train": EACH, "val": FEW, "testA": FEW, "testB": FEW}
    _refer(folder / "refcoco", "refs(unc).p", folder / "train2014", splits, scenes)
    _refer(folder / "refgta", "refs(utokyo).p", folder / "gta_images", {"test": FEW}, scenes)
    _voc(folder / "VOCdevkit" / "VOC2007", scenes)
    _geometry3k(folder / "geometry3k", scenes)
    _solutions(folder, scenes)
    _clevr(folder / "superclevr", scenes)
    _pools(folder, scenes)


def _refer(folder: Path, name: str, images: Path, splits: dict[str, int], scenes: Scenes) -> None:
    """``refs(...).p`` and ``instances.json`` of the REFER toolkit; two objects a picture."""
    refs, annotations, pictures = [], [], []
    for split, count in splits.items():
        for _ in range(count):
            number = len(pictures) + 1
            file = f"COCO_train2014_{number:012}.jpg"
            box, picture = scenes.save(images / file)
            pictures.append({"id": number, "file_name": file, "width": picture.width, "height": picture.height})
            for place, (own, category) in enumerate(((box, [*CATEGORIES][number % 4]), ([1, 2, 30, 20], 63))):
                annotations.append(
                    {"id": 10 * number + place, "image_id": number, "category_id": category, "bbox": own}
                    | {"area": own[2] * own[3], "iscrowd": 0, "segmentation": []}
                )
            text = f"the thing number {number}"
            sentence = {"sent_id": number, "sent": text, "raw": text, "tokens": text.split()}
            refs.append(
                {"ref_id": number, "ann_id": 10 * number, "image_id": number, "split": split, "category_id": 1}
                | {"file_name": file, "sentences": [sentence], "sent_ids": [number]}
            )
    named = [{"id": number, "name": category, "supercategory": "thing"} for number, category in CATEGORIES.items()]
    _json(folder / "instances.json", {"images": pictures, "annotations": annotations, "categories": named})
    (folder / name).write_bytes(pickle.dumps(refs, protocol=2))


def _voc(year: Path, scenes: Scenes) -> None:
    names = [f"{number:06}" for number in range(1, FEW + 1)]
    for name, thing in zip(names, ("dog", "car", "sofa"), strict=True):
        _, picture = scenes.save(year / "JPEGImages" / f"{name}.jpg")
        _text(
            year / "Annotations" / f"{name}.xml",
            f"<annotation><filename>{name}.jpg</filename><size><width>{picture.width}</width><height>{picture.height}"
            f"</height><depth>3</depth></size><object><name>{thing}</name><difficult>0</difficult><bndbox><xmin>1</xmin>"
            "<ymin>1</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object></annotation>\n",
        )
    _text(year / "ImageSets" / "Main" / "test.txt", "".join(f"{name}\n" for name in names))


def _geometry3k(folder: Path, scenes: Scenes) -> None:
    for split, numbers in {"train": (0, 1, 2, 3), "val": (10, 11, 12), "test": (20, 21, 22)}.items():
        for number in numbers:
            home = folder / split / str(number)
            scenes.save(home / "img_diagram.png")
            choices = [str(number + more) for more in (5, 7, 9, 11)]
            _json(
                home / "data.json",
                {"id": number, "annotat_text": f"Find $x_{{{number}}}$.", "problem_text": f"Find x {number}."}
                | {"choices": choices, "answer": "ABCD"[number % 4]},
            )


def _solutions(folder: Path, scenes: Scenes) -> None:
    """Geo170K and MathV360K: conversations, some of which come to no answer."""
    geo, math = folder / "geo170k", folder / "mathv360k"
    shown = geo / "images" / "geo3k" / "shown.png"
    shown.parent.mkdir(parents=True)
    shutil.copy(folder / "geometry3k" / "test" / "20" / "img_diagram.png", shown)
    rows = [_talk("geo3k/shown.png", "Find the side.", "It is 3.\nAnswer: 3")]
    for number in range(2 * EACH):
        scenes.save(geo / "images" / "geoqa_plus" / f"{number}.png")
        question = f"How long is side {number}?\nChoices:\nA:{number}\nB:{number + 1}\nC:{number + 2}\nD:{number + 3}"
        rows.append(_talk(f"geoqa_plus/{number}.png", question, f"Look at it.\nAnswer:{'ABCD'[number % 4]}"))
    rows.append(_talk("geoqa_plus/0.png", "And then?", "It is hard to tell."))
    _json(geo / "qa_tuning.json", rows)
    rows = []
    for number in range(EACH):
        scenes.save(math / "data_images" / "IconQA" / "images" / f"{number}.png")
        question = (
            "Hint: Please answer the question requiring an integer answer and provide the final value, e.g., 1, 2, 3, "
            f"at the end.\nQuestion: How many things are in picture {number}?"
        )
        rows.append(_talk(f"IconQA/images/{number}.png", question, f"The answer is {number + 2}"))
    _json(math / "train_samples_all_tuning.json", rows)


def _clevr(folder: Path, scenes: Scenes) -> None:
    rows = []
    for number in range(FEW):
        name = f"superCLEVR_new_{25000 + number:06}.png"
        scenes.save(folder / "images" / name)
        question = "How many different items are there in the image?"
        rows.append({"image_path": f"./images/{name}", "question": question, "ground_truth": number + 2})
    _lines(folder / "superclevr_test200_counting_problems.jsonl", rows)


def _pools(folder: Path, scenes: Scenes) -> None:
    """What else self-improvement asks."""
    rows = []
    for number in range(FEW):
        image = f"GeomVerse/TRAIN/TRAIN_MIX/TRAIN_MIX_1/images/{number}.jpeg"
        scenes.save(folder / image)
        rows.append({"question": f"Compute area {number}.", "label": number + 0.5, "cot": "So.", "image_path": image})
    _lines(folder / "GeomVerse" / "TRAIN" / "TRAIN_MIX" / "data.jsonl", rows)

    asked = [
        {"problem": f"What is {number} + 4?", "solution": f"We add them: \\boxed{{{number + 4}}}."}
        | {"answer": str(number + 4), "problem_type": "Algebra", "source": "cn_contest"}
        for number in range(FEW)
    ]
    (folder / "openr1_math").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist(asked), folder / "openr1_math" / "train-00000-of-00001.parquet")

    problems: dict[str, Any] = {}
    for number in range(2 * FEW):
        image = "image.png" if number < FEW else None
        problems[str(number)] = {
            "question": f"Which of these states is farthest north in question {number}?",
            "choices": ["West Virginia", "Louisiana", "Arizona"],
            "answer": number % 3,
            "image": image,
            "split": "train",
            **dict.fromkeys(("hint", "lecture", "solution"), ""),
        }
        if image:
            scenes.save(folder / "scienceqa" / "images" / "train" / str(number) / image)
    _json(folder / "scienceqa" / "problems.json", problems)
    _json(folder / "scienceqa" / "pid_splits.json", {"train": [*problems]})

    rows = []
    for number in range(FEW):
        scenes.save(folder / "llava_cot" / "coco" / f"{number}.jpg")
        solution = f"<SUMMARY> I look. </SUMMARY>\n\n<CONCLUSION> {number} </CONCLUSION>"
        rows.append(_talk(f"coco/{number}.jpg", f"How many dogs are in photo {number}?", solution))
    _lines(folder / "llava_cot" / "train.jsonl", rows)

    shown = []
    for number in range(FEW):
        scenes.save(folder / "visual7w" / "images" / f"v7w_{number}.jpg")
        pair = {"qa_id": number, "question": "What floor?", "answer": "Wood.", "type": "what"}
        pair |= {"multiple_choices": ["Tile.", "Carpet.", "Cement."], "image_id": number}
        shown.append({"image_id": number, "split": "train", "filename": f"v7w_{number}.jpg", "qa_pairs": [pair]})
    _json(folder / "visual7w" / "dataset_v7w_telling.json", {"dataset": "visual7w-telling", "images": shown})

    rows = []
    for number in range(FEW):
        scenes.save(folder / "vsr" / "images" / f"{number:012}.jpg")
        row = {"image": f"{number:012}.jpg", "caption": "The dog is in front of the car.", "label": number % 2}
        rows.append(row | {"image_link": "-", "relation": "in front of", "annotator_id": 31})
    _lines(folder / "vsr" / "splits" / "random" / "train.jsonl", rows)


def _talk(image: str, question: str, solution: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": solution}]
    return {"id": image, "image": image, "conversations": turns}


def _json(path: Path, value: Any) -> None:
    _text(path, json.dumps(value))


def _lines(path: Path, rows: Iterable[Any]) -> None:
    _text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
