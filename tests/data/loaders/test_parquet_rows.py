"""Parquet as the hub holds it: pictures are found by their place, opened when asked, and as safe as files."""

import dataclasses
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from published_files import items, load, picture, raw

from curr_reft.data import parquet_image
from curr_reft.data.images import FileImage
from curr_reft.data.item import Item
from curr_reft.data.parquet_image import ParquetImage
from curr_reft.data.rows import Row
from curr_reft.errors import DataError

IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def png(shade: int, size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    levels = np.random.default_rng(shade).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(levels).resize(size).save(file, "png")
    return file.getvalue()


def cell(shade: int) -> dict[str, Any]:
    return {"bytes": png(shade), "path": f"{shade}.png"}


def write(path: Path, columns: dict[str, Any], group: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=group)
    return path


def many(count: int, start: int = 0) -> dict[str, Any]:
    """The columns of EasyR1's data sets: a list of pictures a row; every fifth row has none, every seventh two."""
    pictures = [
        [] if number % 5 == 0 else [cell(number), cell(number + 1000)] if number % 7 == 0 else [cell(number)]
        for number in range(start, start + count)
    ]
    return {
        "images": pyarrow.array(pictures, pyarrow.list_(IMAGE)),
        "problem": [f"{'<image>' * len(each)}What is {start + number}?" for number, each in enumerate(pictures)],
        "answer": [str(number) for number in range(start, start + count)],
    }


def check_many(found: list[Item]) -> None:
    for number, item in enumerate(found):
        shades = [] if number % 5 == 0 else [number, number + 1000] if number % 7 == 0 else [number]
        assert (item.question, item.truth) == (f"What is {number}?", str(number))
        assert len(item.images) == len(shades)
        for image, shade in zip(item.images, shades, strict=True):
            with Image.open(io.BytesIO(png(shade))) as expected:
                assert np.array_equal(np.asarray(image.open()), np.asarray(expected))


def test_shards_and_row_groups_in_order(tmp_path: Path) -> None:
    """Two shards of one split, groups of four rows, lists of pictures, text-only rows; and not the other split."""
    write(tmp_path / "set/data/train-00000-of-00002.parquet", many(11), group=4)
    write(tmp_path / "set/data/train-00001-of-00002.parquet", many(9, 11), group=4)
    write(tmp_path / "set/data/test-00000-of-00001.parquet", many(3))
    entry = {"path": "set", "format": "parquet", "options": {"split": "train"}, "task": "math"}
    found = items(tmp_path, entry)
    assert len(found) == 20
    check_many(found)
    assert found[12].source == "set/data/train-00001-of-00002.parquet:2"
    assert [item.truth for item in items(tmp_path, entry | {"sampling": "end:15%"})] == ["17", "18", "19"]
    with pytest.raises(DataError, match=r"holds the splits test, train; name one"):
        items(tmp_path, entry | {"options": {}})
    with pytest.raises(DataError, match=r"no 'trian'; did you mean train\?"):
        items(tmp_path, entry | {"options": {"split": "trian"}})


def test_converted_repositories_name_splits_by_folders(tmp_path: Path) -> None:
    for split, start in (("train", 0), ("test", 6)):
        write(tmp_path / f"set/default/{split}/0000.parquet", many(6, start))
    entry = {"path": "set", "format": "parquet", "options": {"split": "test"}, "task": "math"}
    assert [item.truth for item in items(tmp_path, entry)] == [str(number) for number in range(6, 12)]


def test_one_picture_a_row_in_every_way_it_is_stored(tmp_path: Path) -> None:
    texts = {"question": ["a?", "b?"], "answer": ["1", "2"]}
    picture(tmp_path / "here" / "a.png", 40, 30)
    ways = {
        "struct": pyarrow.array([cell(1), None], IMAGE),
        "bytes": pyarrow.array([png(1), None], pyarrow.binary()),
        "no_path": pyarrow.array([{"bytes": png(1)}, None], pyarrow.struct([("bytes", pyarrow.binary())])),
        "path": pyarrow.array([{"bytes": None, "path": "here/a.png"}, None], IMAGE),
        "text": pyarrow.array(["here/a.png", None]),
    }
    columns = {"question": "question", "image": "image"}
    for name, column in ways.items():
        write(tmp_path / f"{name}.parquet", {**texts, "image": column})
        first, second = items(tmp_path, {"path": f"{name}.parquet", "columns": columns, "task": "math"})
        assert first.images[0].size == (40, 30), name
        assert first.images[0].open().size == (40, 30), name
        assert isinstance(first.images[0], FileImage if name in ("path", "text") else ParquetImage), name
        assert second.images == (), name


def test_conversations_and_class_labels_as_datasets_writes_them(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    colour = Image.new("RGB", (40, 30), "red")
    prompt = [{"role": "user", "content": "How many?"}]
    rows = datasets.Dataset.from_dict(
        {"prompt": [prompt] * 3, "images": [[colour], [], [colour, colour]], "solution": ["1", "2", "3"]},
        features=datasets.Features(
            {
                "prompt": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
                "images": datasets.List(datasets.Image()),
                "solution": datasets.Value("string"),
            }
        ),
    )
    rows.to_parquet(tmp_path / "trl.parquet")
    found = items(tmp_path, {"path": "trl.parquet", "task": "math"})
    assert [(item.question, item.truth, len(item.images)) for item in found] == [
        ("How many?", "1", 1),
        ("How many?", "2", 0),
        ("How many?", "3", 2),
    ]
    assert found[0].images[0].open().getpixel((3, 3)) == (255, 0, 0)

    labelled = datasets.Dataset.from_dict(
        {"image": [colour, colour], "label": [1, 0]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}),
    )
    labelled.to_parquet(tmp_path / "labels.parquet")
    entry = {"path": "labels.parquet", "format": "parquet", "columns": {"answer": "label"}, "task": "classification"}
    found = items(tmp_path, entry | {"options": {"question": "Which animal?"}})
    assert [(item.question, item.truth) for item in found] == [("Which animal?", ("dog",)), ("Which animal?", ("cat",))]


def test_pictures_inside_are_as_safe_as_files(tmp_path: Path) -> None:
    """The cap before decoding, cut and empty bytes, text: each with its row; the others are found all the same."""
    data = [png(1), png(2)[:-40], b"", b"no picture", png(3, (200, 100)), png(4)]
    write(tmp_path / "rows.parquet", {"problem": ["x?"] * 6, "answer": ["1"] * 6, "image": data})
    entry = {"path": "rows.parquet", "task": "math"}
    with pytest.raises(DataError) as caught:
        load(tmp_path, entry, max_pixels=12_000)
    assert {source: reason.split("'image'")[1] for source, reason in caught.value.problems}.keys() == {
        f"rows.parquet:{row}" for row in (2, 3, 4, 5)
    }
    reasons = [reason for _, reason in caught.value.problems]
    for reason, expected in zip(reasons, ("cannot be decoded", "empty", "known format", "max_pixels"), strict=True):
        assert expected in reason
    assert len(items(tmp_path, entry, max_pixels=12_000, bad_rows="skip")) == 2


def test_nothing_but_places_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", many(3))
    found = [row for row in raw("parquet", path) if isinstance(row, Row)]
    [image] = found[1].fields["images"]
    assert dataclasses.asdict(image) | {"max_pixels_cap": 0} == {
        "file": path, "row_group": 0, "row": 1, "column": "images", "index": 0, "max_pixels_cap": 0, "source": "",
    }  # fmt: skip
    again = pickle.loads(pickle.dumps(image))  # as it goes to a worker
    assert again.key == image.key
    assert again.open().size == (40, 30)


def test_any_order_of_opening_and_a_file_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_image, "ROWS", 3)
    path = write(tmp_path / "rows.parquet", {"image": [png(shade) for shade in range(20)]}, group=8)
    for place in (0, 1, 7, 6, 19, 3, 3, 12, 2):
        assert ParquetImage(path, place // 8, place % 8, "image").stored().read() == png(place)
    write(path, {"image": [png(shade + 50) for shade in range(20)]}, group=8)
    assert ParquetImage(path, 0, 3, "image").stored().read() == png(53)
    write(path, {"image": [png(1)]})
    with pytest.raises(DataError, match="was the file changed"):
        ParquetImage(path, 2, 1, "image").stored()
    path.unlink()
    with pytest.raises(DataError, match="was the file changed"):
        ParquetImage(path, 0, 0, "image").check()


def test_what_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("{}")
    with pytest.raises(DataError, match="is no parquet file"):
        items(tmp_path, {"path": "rows.parquet"})
    with pytest.raises(DataError, match="cannot be read"):
        items(tmp_path, {"path": "none.parquet"})
    write(tmp_path / "rows.parquet", many(2))
    with pytest.raises(DataError, match=r"no column 'anser'.*did you mean answer"):
        items(tmp_path, {"path": "rows.parquet", "columns": {"answer": "anser"}})
    entry = {"path": "rows.parquet", "format": "parquet", "task": "math"}
    assert len(items(tmp_path, entry | {"options": {"style": "easyr1"}})) == 2
    with pytest.raises(DataError, match="did you mean easyr1"):
        items(tmp_path, entry | {"options": {"style": "easyr"}})


def test_a_file_that_is_damaged_inside_is_named_with_its_row(tmp_path: Path) -> None:
    """Its end says what it should hold, so that it opens."""
    rows = 4
    path = write(
        tmp_path / "a.parquet",
        {"problem": [f"q {n}" for n in range(rows)], "solution": ["1"] * rows, "task": ["math"] * rows},
        group=2,
    )
    whole = path.read_bytes()
    second = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    path.write_bytes(whole[:second] + b"\xff" * 40 + whole[second + 40 :])
    with pytest.raises(DataError, match=r"a\.parquet:3: the file is damaged from this row on \(.*fetch it again"):
        load(tmp_path, {"path": path.name})
