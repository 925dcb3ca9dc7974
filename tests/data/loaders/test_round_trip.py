"""The drawn world written in every format comes back as the same items: questions, truths, boxes and pixels."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from published_files import items, write_json, write_lines

from curr_reft.data.export import Pictures, truth_text
from curr_reft.data.item import Item
from curr_reft.data.shapes import drawn_items

CELL = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
World = Sequence[tuple[Item, list[str]]]  # items and the paths of their pictures
Written = tuple[dict[str, Any], World]  # what a recipe's entry says, and the items it has to give


@pytest.fixture(scope="module")
def drawn() -> list[Item]:
    """Six items a task, of which one is shown two pictures and one is text only."""
    found = list(drawn_items(0, "train", {"detection": 6, "classification": 6, "math": 6}))
    maths = [place for place, item in enumerate(found) if item.task == "math"]
    first, second = found[maths[0]], found[maths[1]]
    found[maths[0]] = replace(first, images=(*first.images, *second.images))
    found[maths[1]] = replace(second, question="1 + 1?", truth="2", images=())
    return found


def reference(folder: Path, world: World) -> Written:
    rows = [
        {"problem": item.question, "solution": f"<answer>{truth_text(item.truth)}</answer>", "task": item.task}
        | {"image": paths}
        for item, paths in world
    ]
    write_lines(folder / "rows.jsonl", rows)
    return {"path": "rows.jsonl"}, world


def trl(folder: Path, world: World) -> Written:
    rows = [
        {
            "prompt": [{"role": "user", "content": [*[{"type": "image"}] * len(paths), text(item.question)]}],
            "images": [{"path": path, "bytes": None} for path in paths],
            "answer": truth_text(item.truth),
            "task": item.task,
        }
        for item, paths in world
    ]
    write_json(folder / "rows.json", rows, indent=1)
    return {"path": "rows.json"}, world


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def easyr1(folder: Path, world: World) -> Written:
    """As parquet with the pictures inside, in row groups of four."""
    pictures = [[{"bytes": (folder / path).read_bytes(), "path": None} for path in paths] for _, paths in world]
    columns = {
        "problem": ["<image>" * len(paths) + item.question for item, paths in world],
        "answer": [truth_text(item.truth) for item, _ in world],
        "task": [item.task for item, _ in world],
        "images": pyarrow.array(pictures, pyarrow.list_(CELL)),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "rows.parquet", row_group_size=4)
    return {"path": "rows.parquet"}, world


def swift(folder: Path, world: World) -> Written:
    """Boxes as objects, in pixels and from 0 to 1 in turn."""
    rows: list[dict[str, Any]] = []
    for number, (item, paths) in enumerate(world):
        answer, row = truth_text(item.truth), {"images": paths, "task": item.task}
        if item.task == "detection":
            width, height = item.images[0].size
            box, kind = list(item.truth), "real"
            if number % 2:
                box, kind = [side / length for side, length in zip(box, (width, height) * 2, strict=True)], "norm1"  # type: ignore[operator]
            answer, row["objects"] = "<bbox>", {"ref": [], "bbox": [box], "bbox_type": kind}
        user = {"role": "user", "content": "<image>" * len(paths) + item.question}
        rows.append({"messages": [user, {"role": "assistant", "content": answer}], **row})
    write_lines(folder / "rows.jsonl", rows)
    return {"path": "rows.jsonl", "format": "swift"}, world


def llamafactory(folder: Path, world: World) -> Written:
    rows = [
        {
            "conversations": [
                {"from": "human", "value": "<image>" * len(paths) + item.question},
                {"from": "gpt", "value": truth_text(item.truth)},
            ],
            "images": paths,
            "task": item.task,
        }
        for item, paths in world
    ]
    write_json(folder / "rows.json", rows)
    return {"path": "rows.json"}, world


def table(folder: Path, world: World) -> Written:
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["Aufgabe", "Frage", "Antwort", "Datei"])
        for item, paths in world:
            names = "[" + ", ".join(f'"{path}"' for path in paths) + "]" if len(paths) > 1 else "".join(paths)
            writer.writerow([item.task, item.question, truth_text(item.truth), names])
    columns = {"task": "Aufgabe", "question": "Frage", "answer": "Antwort", "image": "Datei"}
    return {"path": "rows.csv", "columns": columns}, world


def imagefolder(folder: Path, world: World) -> Written:
    rows = [
        {"file_names": paths, "question": item.question, "answer": truth_text(item.truth), "task": item.task}
        for item, paths in world
    ]
    write_lines(folder / "metadata.jsonl", rows)
    return {"path": ".", "format": "imagefolder"}, world


def classes(folder: Path, world: World) -> Written:
    """Pictures of one category, by the folder they lie in."""
    chosen = []
    for item, paths in world:
        if item.task == "classification":
            item = replace(item, truth=(item.truth[0],), question="What is there?")
            path = folder / "sorted" / str(item.truth[0]) / Path(paths[0]).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((folder / paths[0]).read_bytes())
            chosen.append((str(path), (item, paths)))
    entry = {"path": "sorted", "format": "imagefolder", "options": {"question": "What is there?"}}
    return entry, [each for _, each in sorted(chosen)]


WRITERS: list[Callable[[Path, World], Written]] = [
    reference, trl, easyr1, swift, llamafactory, table, imagefolder, classes,
]  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_round_trip(tmp_path: Path, drawn: list[Item], writer: Callable[[Path, World], Written]) -> None:
    pictures = Pictures(tmp_path)
    entry, expected = writer(tmp_path, [(item, [pictures.path_of(each) for each in item.images]) for item in drawn])
    found = items(tmp_path, entry)
    assert [(item.task, item.question) for item in found] == [(item.task, item.question) for item, _ in expected]
    for item, (original, _) in zip(found, expected, strict=True):
        assert item.truth == (pytest.approx(original.truth) if item.task == "detection" else original.truth)
        assert [image.size for image in item.images] == [image.size for image in original.images]
        for image, drawn_image in zip(item.images, original.images, strict=True):
            assert np.array_equal(np.asarray(image.open()), np.asarray(drawn_image.open()))


def test_pictures_inside_parquet_can_be_exported(tmp_path: Path, drawn: list[Item]) -> None:
    pictures = Pictures(tmp_path)
    entry, _ = easyr1(tmp_path, [(item, [pictures.path_of(each) for each in item.images]) for item in drawn[:2]])
    out = Pictures(tmp_path / "out")
    for item in items(tmp_path, entry):
        with Image.open(tmp_path / "out" / out.path_of(item.images[0])) as written:
            assert np.array_equal(np.asarray(item.images[0].open()), np.asarray(written))
