"""RefCOCO and RefGTA in every layout they are published in: the same expression leads to the same box."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from published_files import items, picture, problems, raw, write_json, write_lines
from pyarrow import parquet
from test_coco import annotation

from curr_reft.data.loaders.plain_pickle import read_plain
from curr_reft.errors import DataError

PICTURE = "COCO_train2014_000000581857.jpg"
OTHER = "COCO_train2014_000000098304.jpg"


def sentence(number: int, text: str) -> dict[str, Any]:
    return {"tokens": text.split(), "raw": text.upper(), "sent_id": number, "sent": text}


def ref(number: int, annotated: int, image: int, split: str, *texts: str) -> dict[str, Any]:
    said = [sentence(10 * number + place, text) for place, text in enumerate(texts)]
    fields = {"ref_id": number, "ann_id": annotated, "image_id": image, "split": split, "category_id": 1}
    # The name in a ref carries the number of the annotation and is no file.
    name = f"COCO_train2014_{image:012}_{number}.jpg"
    return {**fields, "file_name": name, "sentences": said, "sent_ids": [each["sent_id"] for each in said]}


REFS = [
    ref(0, 1719310, 581857, "train", "the lady with the blue shirt", "lady in blue"),
    ref(1, 1719311, 581857, "train", "man on the left"),
    ref(2, 21, 98304, "testA", "girl"),
]
INSTANCES = {
    "info": {},
    "images": [
        {"id": 581857, "file_name": PICTURE, "width": 64, "height": 48},
        {"id": 98304, "file_name": OTHER, "width": 64, "height": 48},
    ],
    "annotations": [
        annotation(1719310, 581857, 1, [10.5, 2.0, 20.0, 30.25]),
        annotation(1719311, 581857, 1, [40, 5, 10, 20]),
        annotation(5, 581857, 18, [0, 0, 60, 40]),
        annotation(21, 98304, 1, [1, 1, 8, 9]),
    ],
    "categories": [
        {"supercategory": "person", "id": 1, "name": "person"},
        {"supercategory": "animal", "id": 18, "name": "dog"},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (PICTURE, OTHER):
        picture(tmp_path / "train2014" / name)
    write_json(tmp_path / "refcoco" / "instances.json", INSTANCES)
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol=2))
    write_json(tmp_path / "refcoco" / "refs(unc).json", REFS)
    return tmp_path


ENTRY = {"path": "refcoco/refs(unc).p", "format": "refcoco", "image_root": "train2014"}
BOX, BESIDE = (10.5, 2.0, 30.5, 32.25), (40.0, 5.0, 50.0, 25.0)


@pytest.mark.parametrize("name", ["refs(unc).p", "refs(unc).json"])
@pytest.mark.parametrize("format", ["refcoco", "refgta"])
def test_refer(folder: Path, name: str, format: str) -> None:
    entry = ENTRY | {"path": f"refcoco/{name}", "format": format, "options": {"split": "train"}}
    first, again, left = items(folder, entry)
    assert first.question == 'Where is what "the lady with the blue shirt" describes?'
    assert first.truth == again.truth == BOX
    assert first.distractors == (BESIDE, (0.0, 0.0, 60.0, 40.0))  # the other person first, then the dog
    assert [item.source for item in (first, again, left)] == [
        f"{name}:refs[0].sentences[0]",
        f"{name}:refs[0].sentences[1]",
        f"{name}:refs[1].sentences[0]",
    ]
    assert first.images[0].size == (64, 48)
    assert len(items(folder, entry | {"options": {"split": "train", "sentences": "first"}})) == 2
    (girl,) = items(folder, entry | {"options": {"split": "testA"}})
    assert (girl.truth, girl.distractors) == ((1.0, 1.0, 9.0, 10.0), ())


def test_two_splits_of_one_file_are_different_rows(folder: Path) -> None:
    entries = [ENTRY | {"options": {"split": split}} for split in ("train", "testA")]
    found = items(folder, entries[0], files={**_files(entries)})
    assert len(found) == 3


def _files(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"train": [entries[0]], "test": [entries[1]], "validation": [{"path": "validation.jsonl"}]}


def test_categories_of_the_pictures_of_a_split(folder: Path) -> None:
    (shown,) = items(folder, ENTRY | {"task": "classification", "options": {"split": "train"}})
    assert (shown.truth, shown.source) == (("person", "dog"), "refs(unc).p/instances.json:images[0]")


def test_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    # As Python 2's cPickle wrote {"sent": "caf\xc3\xa9", "n": 3L} in protocol 2: a byte string and a long.
    (tmp_path / "refs.p").write_bytes(
        b"\x80\x02]q\x00}q\x01(U\x04sentq\x02U\x05caf\xc3\xa9q\x03U\x01nq\x04\x8a\x01\x03ua."
    )
    assert read_plain(tmp_path / "refs.p", "refs.p") == [{"sent": "café", "n": 3}]


class Payload:
    def __init__(self, action: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (action, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_acts_is_refused_and_does_nothing(folder: Path, protocol: int) -> None:
    mark = folder / "executed"
    payloads = [Payload(os.system, f"touch {mark}"), Payload(os.mkdir, str(mark)), Payload(eval, "1 + 1"), Path(mark)]
    for payload in payloads:
        file = folder / "refcoco" / "refs(unc).p"
        file.write_bytes(pickle.dumps([*REFS, payload], protocol=protocol))
        with pytest.raises(DataError) as caught:
            raw("refcoco", file, split="train")
        assert "which could run code" in caught.value.reason
        assert "json.dump(pickle.load(" in caught.value.reason  # the way out
    assert not mark.exists()


def test_the_payload_would_act_if_it_were_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(os.mkdir, str(tmp_path / "executed"))))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02]q\x00}q\x01(U\x04sent", b"cos\nsystem\n(S'true'\ntR.", b"\x80\x02\x82\x01."]
)
def test_a_damaged_pickle_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "refs.p").write_bytes(data)
    with pytest.raises(DataError, match=r"refs\.p: is refused"):
        read_plain(tmp_path / "refs.p", "refs.p")


BROKEN_REFS = [
    ({"ann_id": 7}, "refs(unc).json:refs[0]", "ann_id 7 is no annotation of its image"),
    ({"image_id": 7}, "refs(unc).json:refs[0]", "do the two files belong together"),
    ({"sentences": []}, "refs(unc).json:refs[0]", "has no sentences"),
    ({"sentences": [{"raw": "A"}]}, "refs(unc).json:refs[0].sentences[0]", "has no key sent"),
    ({"sentences": [sentence(1, " ")]}, "refs(unc).json:refs[0].sentences[0]", "sent is empty"),
]


@pytest.mark.parametrize(("broken", "source", "reason"), BROKEN_REFS)
def test_a_broken_ref_is_named(folder: Path, broken: dict[str, Any], source: str, reason: str) -> None:
    path = write_json(folder / "refcoco" / "refs(unc).json", [REFS[0] | broken, REFS[1]])
    found = raw("refcoco", path, split="train")
    assert [each[0] for each in problems(found)] == [source]
    assert reason in problems(found)[0][1]
    assert len(found) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [({}, "needs options.split"), ({"split": "test"}, "options.split is 'test'; did you mean testA")],
)
def test_a_split_must_be_named(folder: Path, options: dict[str, str], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        raw("refcoco", folder / "refcoco" / "refs(unc).p", **options)


def test_mdetr(folder: Path) -> None:
    """Every expression is an image of its own; the picture stands under several ids."""
    texts = ((0, PICTURE, "the lady with the blue shirt"), (1, PICTURE, "man on the left"), (2, OTHER, "girl"))
    images = [
        {
            "file_name": name,
            "height": 48,
            "width": 64,
            "id": number,
            "original_id": 581857,
            "caption": text,
            "dataset_name": "refcoco",
            "tokens_negative": [[0, len(text)]],
        }
        for number, name, text in texts
    ]
    boxes = ([10.5, 2.0, 20.0, 30.25], [40, 5, 10, 20], [1, 1, 8, 9])
    annotations = [annotation(n, n, 1, box, tokens_positive=[[0, 4]], original_id=n) for n, box in enumerate(boxes)]
    content = {"info": [], "licenses": [], "images": images, "annotations": annotations}
    content["categories"] = INSTANCES["categories"]
    path = write_json(folder / "finetune_refcoco_train.json", content)
    first, second, third = items(folder, {"path": path.name, "format": "refcoco", "image_root": "train2014"})
    assert (first.truth, first.distractors) == (BOX, (BESIDE,))
    assert first.question == 'Where is what "the lady with the blue shirt" describes?'
    assert second.truth == BESIDE
    assert (third.distractors, third.source) == ((), "finetune_refcoco_train.json:images[2]")
    write_json(path, content | {"annotations": annotations[:2], "images": [images[0] | {"caption": "x"}, *images[1:]]})
    assert problems(raw("refcoco", path)) == [
        ("finetune_refcoco_train.json:images[2]", "an expression needs a caption and one annotation; found 0")
    ]
    with pytest.raises(DataError, match=r"options\.split does not apply"):
        raw("refcoco", path, split="train")


LINES = [
    {"img_path": PICTURE, "expression": "lady in blue", "bbox": [10.5, 2, 30.5, 32.25], "height": 48, "width": 64},
    {"image": PICTURE, "sent": "lady in blue", "bbox": [10.5, 2, 30.5, 32.25], "height": 48, "width": 64},
]


@pytest.mark.parametrize("line", LINES, ids=["Shikra", "Qwen-VL"])
def test_json_lines(folder: Path, line: dict[str, Any]) -> None:
    path = write_lines(folder / "REC_refcoco_unc_val.jsonl", [line, line | {"bbox": [30, 2, 10, 5]}])
    assert problems(raw("refcoco", path)) == [
        (f"{path.name}:2", "bbox [30, 2, 10, 5] is empty or inverted: x1 < x2 and y1 < y2 are needed")
    ]
    write_lines(path, [line])
    (item,) = items(folder, {"path": path.name, "format": "refcoco", "image_root": "train2014"})
    assert (item.truth, item.question) == (BOX, 'Where is what "lady in blue" describes?')
    write_lines(path, [line | {"height": 480, "width": 640}])
    with pytest.raises(DataError, match="boxes are in pixels of 640x480, but the image has 64x48"):
        items(folder, {"path": path.name, "format": "refcoco", "image_root": "train2014"})


def test_table_with_paths(folder: Path) -> None:
    rows = [
        {
            "sent_ids": [0, 1],
            "file_name": "COCO_train2014_000000581857_16.jpg",
            "ann_id": 1719310,
            "ref_id": 0,
            "image_id": 581857,
            "split": "train",
            "sentences": REFS[0]["sentences"],
            "image_path": f"coco/train2014/{PICTURE}",
            "bbox": [10.5, 2.0, 30.5, 32.25],
        }
    ]
    path = folder / "train.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    picture(folder / "coco" / "train2014" / PICTURE)
    first, second = items(folder, {"path": path.name, "format": "refcoco"})
    assert (first.truth, second.truth, second.source) == (BOX, BOX, "train.parquet:1.sentences[1]")
    parquet.write_table(pa.Table.from_pylist([{"a": 1}, {"a": 2}]), path)
    assert problems(raw("refcoco", path))[1] == (
        "train.parquet:2",
        "has neither sentences nor answer; columns found: a",
    )
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"train\.parquet: is no parquet file"):
        raw("refcoco", path)


def test_table_with_pictures_inside(folder: Path) -> None:
    """Boxes are a corner with a size here, and corners in the other table."""
    inside = {"bytes": (folder / "train2014" / PICTURE).read_bytes(), "path": PICTURE}
    row = {
        "question_id": "1719310",
        "image": inside,
        "question": "Please carefully observe the area circled in the image and come up with a caption for the area.",
        "answer": ["the lady with the blue shirt", "lady in blue"],
        "segmentation": [10.5, 2.0],
        "bbox": [10.5, 2.0, 20.0, 30.25],
        "iscrowd": 0,
        "file_name": "COCO_train2014_000000581857_16.jpg",
    }
    for name in ("val-00000-of-00001", "testA-00000-of-00001"):
        (folder / "data").mkdir(exist_ok=True)
        parquet.write_table(pa.Table.from_pylist([row]), folder / "data" / f"{name}.parquet")
    first, second = items(folder, {"path": "data", "format": "refcoco", "options": {"split": "val"}})
    assert (first.truth, second.truth, first.images[0].size) == (BOX, BOX, (64, 48))
    assert first.question == 'Where is what "the lady with the blue shirt" describes?'
    with pytest.raises(DataError, match="holds the splits testA, val; name one"):
        raw("refcoco", folder / "data")


def test_another_suffix_is_refused(folder: Path) -> None:
    (folder / "refs.txt").write_text(json.dumps(REFS))
    with pytest.raises(DataError, match="is no file of RefCOCO"):
        raw("refcoco", folder / "refs.txt", split="train")
