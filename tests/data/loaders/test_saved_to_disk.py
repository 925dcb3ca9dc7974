"""Folders that ``datasets.save_to_disk`` wrote: written by pyarrow in its layout, and by the library itself."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from label_tools import drawn_pictures
from PIL import Image
from published_files import items, load

from curr_reft.data.parquet_image import ArrowImage
from curr_reft.errors import DataError

CELL = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((40 + number, 30)).point(lambda level: (level + 37 * number) % 256).save(
        file, "png"
    )
    return file.getvalue()


def columns(numbers: range) -> dict[str, Any]:
    return {
        "image": pyarrow.array([{"bytes": png(number), "path": None} for number in numbers], CELL),
        "question": [f"what is shown in {number}?" for number in numbers],
        "label": pyarrow.array([number % 2 for number in numbers], pyarrow.int64()),
    }


def save(folder: Path, **more: Any) -> Path:
    """Two files of five rows in two batches, with the schema's features and state.json."""
    folder.mkdir(parents=True)
    features = {
        "image": {"_type": "Image"},
        "question": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    }
    names = []
    for place, start in enumerate((0, 5)):
        table = pyarrow.table({**columns(range(start, start + 5)), **more})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        names.append(f"data-0000{place}-of-00002.arrow")
        with pyarrow.ipc.new_stream(str(folder / names[-1]), table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "f", "_split": None}
    (folder / "state.json").write_text(json.dumps(state, indent=2))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


ENTRY = {"path": "saved", "columns": {"answer": "label"}, "task": "classification"}


def test_rows_classes_and_pictures(tmp_path: Path) -> None:
    save(tmp_path / "saved")
    found = items(tmp_path, ENTRY)
    assert [item.question for item in found] == [f"what is shown in {number}?" for number in range(10)]
    assert [item.truth for item in found] == [("cat",), ("dog",)] * 5
    assert [item.images[0].size for item in found] == [(40 + number, 30) for number in range(10)]
    assert found[7].source == "saved:8"
    for number in (9, 0, 4, 4, 7):  # in any order
        image = found[number].images[0]
        assert isinstance(image, ArrowImage)
        assert image.stored().read() == png(number)
    assert [item.source for item in items(tmp_path, ENTRY | {"format": "arrow", "sampling": "end:2"})] == [
        "saved:9",
        "saved:10",
    ]


def test_several_pictures_and_paths(tmp_path: Path) -> None:
    cells = [
        [{"bytes": png(20 + number), "path": None}, {"bytes": png(30 + number), "path": "x.png"}] for number in range(3)
    ]
    picture = drawn_pictures(1)[0]
    picture.save(tmp_path / "photos/p.png")
    cells += [[{"bytes": None, "path": "p.png"}], []]
    save(tmp_path / "saved", image=pyarrow.array(cells, pyarrow.list_(CELL)))
    found = items(tmp_path, ENTRY | {"image_root": "photos"})
    assert [[image.size for image in item.images] for item in found[:5]] == [
        *([(60 + number, 30), (70 + number, 30)] for number in range(3)),
        [picture.size],
        [],
    ]


def test_splits(tmp_path: Path) -> None:
    save(tmp_path / "saved/train")
    save(tmp_path / "saved/test")
    (tmp_path / "saved/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    chosen = ENTRY | {"format": "arrow", "options": {"split": "test"}}
    assert items(tmp_path, chosen)[0].source == "saved/test:1"
    for options, reason in (
        ({}, r"saved: holds the splits train, test; name one \(options.split\)"),
        ({"split": "tset"}, "did you mean test?"),
    ):
        with pytest.raises(DataError, match=reason):
            items(tmp_path, ENTRY | {"format": "arrow", "options": options})


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "saved")
    with pytest.raises(DataError, match=r"has no column 'lable' \(columns.answer\); did you mean label"):
        items(tmp_path, ENTRY | {"columns": {"answer": "lable"}})
    second = folder / "data-00001-of-00002.arrow"
    whole = second.read_bytes()
    second.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"saved/data-00001.*is a Git LFS pointer.*git lfs pull"):
        items(tmp_path, ENTRY)
    second.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"saved/data-00001.*damaged"):
        items(tmp_path, ENTRY)
    second.unlink()
    with pytest.raises(DataError, match=r"saved/data-00001.*cannot be read"):
        items(tmp_path, ENTRY)
    (folder / "state.json").write_text("{}")
    with pytest.raises(DataError, match="no folder of datasets' save_to_disk"):
        items(tmp_path, ENTRY)


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "question": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["a", "b"]),
        }
    )
    rows = [
        {"image": Image.open(io.BytesIO(png(number))), "question": f"q {number}?", "label": number % 2}
        for number in range(6)
    ]
    made = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": made, "test": made.select([5, 0])}).save_to_disk(str(tmp_path / "saved"))
    entry = {**ENTRY, "format": "arrow"}
    train = load(tmp_path, {**entry, "options": {"split": "train"}}).split("train")
    assert [(item.question, item.truth, item.images[0].size) for item in train] == [
        (f"q {number}?", ("ab"[number % 2],), (40 + number, 30)) for number in range(6)
    ]
    picked = load(tmp_path, {**entry, "options": {"split": "test"}}).split("train")
    assert [item.question for item in picked] == ["q 5?", "q 0?"]
