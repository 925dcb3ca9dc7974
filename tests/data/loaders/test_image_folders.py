"""Folders of pictures: classes as folders, or metadata beside them, as datasets' ImageFolder has it."""

import json
from pathlib import Path

import pytest
from published_files import items, load, picture, problems, raw

from curr_reft.errors import DataError

ENTRY = {"path": "photos", "options": {"question": "Which animal?"}, "format": "imagefolder"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("dog/2.png", "cat/1.png", "dog/10.jpg", "traffic light/x.PNG"):
        picture(tmp_path / "photos" / name)
    (tmp_path / "photos/cat/.DS_Store").write_text("of the system")
    return tmp_path


def test_folders_are_classes(photos: Path) -> None:
    found = items(photos, ENTRY)
    assert [(item.question, item.truth, item.source, item.task) for item in found] == [
        ("Which animal?", ("cat",), "photos/cat/1.png", "classification"),
        ("Which animal?", ("dog",), "photos/dog/10.jpg", "classification"),
        ("Which animal?", ("dog",), "photos/dog/2.png", "classification"),
        ("Which animal?", ("traffic light",), "photos/traffic light/x.PNG", "classification"),
    ]
    assert items(photos, {"path": "photos"})[0].question == "What is shown in the image?"
    assert [item.source for item in items(photos, ENTRY | {"sampling": "end:25%"})] == ["photos/traffic light/x.PNG"]


def test_the_same_labels_as_the_datasets_library(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(photos / "photos"), split="train", cache_dir=str(photos / "cache")
    )
    loaded = loaded.cast_column("image", datasets.Image(decode=False))
    names = loaded.features["label"].names
    theirs = {Path(row["image"]["path"]).name: names[row["label"]] for row in loaded}
    assert theirs == {Path(item.source).name: item.truth[0] for item in items(photos, ENTRY)}


def test_what_is_no_picture_of_a_class_is_named(photos: Path) -> None:
    (photos / "photos/dog/notes.txt").write_text("good dog")
    picture(photos / "photos/stray.png")
    (photos / "photos/cat/2.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        load(photos, ENTRY)
    found = dict(caught.value.problems)
    assert "is no picture" in found["photos/dog/notes.txt"]
    assert "in no folder of a class" in found["photos/stray.png"]
    assert "known format" in found["photos/cat/2.png"]
    assert len(found) == 3
    assert len(items(photos, ENTRY, bad_rows="skip")) == 4


def test_a_folder_of_splits_asks_for_one(tmp_path: Path) -> None:
    for split in ("train", "test"):
        picture(tmp_path / f"photos/{split}/cat/{split}.png")
    with pytest.raises(DataError, match=r"holds the splits test, train; name one: photos/test"):
        items(tmp_path, ENTRY)
    assert [item.truth for item in items(tmp_path, ENTRY | {"path": "photos/train"})] == [("cat",)]


@pytest.mark.parametrize("format", ["auto", "imagefolder"])
def test_metadata(photos: Path, format: str) -> None:
    """CSV, JSON lines with one picture or several, and parquet; the columns have names of their own."""
    folder = photos / "photos"
    entry = {"path": "photos", "format": format, "columns": {"question": "ask", "answer": "say"}, "task": "math"}
    rows = [
        {"file_name": "dog/2.png", "ask": "How many?", "say": "1"},
        {"ask": "1 + 1?", "say": "2", "file_name": None},
    ]
    (folder / "metadata.csv").write_text('file_name,ask,say\ndog/2.png,"How\nmany?",1\n,1 + 1?,2\n')
    first, second = items(photos, entry)
    assert (first.question, first.truth, first.images[0].size) == ("How\nmany?", "1", (64, 48))
    assert (second.question, second.images, second.source) == ("1 + 1?", (), "photos/metadata.csv:4")

    (folder / "metadata.csv").unlink()
    rows.append({"file_names": ["dog/2.png", "cat/1.png"], "ask": "Same?", "say": "no"})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [len(item.images) for item in items(photos, entry)] == [1, 0, 2]

    (folder / "metadata.csv").write_text("file_name\n")
    with pytest.raises(DataError, match=r"holds metadata\.jsonl and metadata\.csv; keep one"):
        items(photos, entry)
    for name in ("metadata.csv", "metadata.jsonl"):
        (folder / name).unlink()

    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows[:2]), folder / "metadata.parquet")
    found = items(photos, entry | {"format": "imagefolder"})
    assert [(item.truth, len(item.images)) for item in found] == [("1", 1), ("2", 0)]


def test_broken_metadata_names_its_line(photos: Path) -> None:
    (photos / "photos/metadata.jsonl").write_text('{"file_name": "x.png", "question": "a?"}\nnot json\n')
    found = dict(problems(raw("imagefolder", photos / "photos")))
    assert "no answer" in found["photos/metadata.jsonl:1"]
    assert "not JSON" in found["photos/metadata.jsonl:2"]


def test_folders_that_cannot_be_told(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="of no format that can be told; set format"):
        items(tmp_path, {"path": "photos"})
    picture(tmp_path / "photos/cat/1.png")
    (tmp_path / "photos/rows.parquet").write_text("")
    with pytest.raises(DataError, match="may be imagefolder or parquet; set format"):
        items(tmp_path, {"path": "photos"})
    (tmp_path / "file.csv").write_text("")
    with pytest.raises(DataError, match="must be a folder"):
        items(tmp_path, {"path": "file.csv", "format": "imagefolder"})
