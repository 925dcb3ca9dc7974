"""Rows written by others become Items, or are named with the reason. Nothing is replaced in silence."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curr_reft.data.config import DataConfig, FileEntry
from curr_reft.data.item import Truth
from curr_reft.data.load import load_data
from curr_reft.errors import DataError


def read_truth(task: str, raw: Any) -> Truth:
    """A stand-in for the tasks: boxes and names as JSON, math as text."""
    readers = {
        "detection": lambda value: tuple(
            float(each) for each in (json.loads(value) if isinstance(value, str) else value)
        ),
        "classification": lambda value: tuple(json.loads(value) if isinstance(value, str) else value),
        "math": str,
    }
    return readers[task](raw)


GOOD = {"problem": "How many?", "solution": "<answer> 3 </answer>", "task": "math", "image": "red.png"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{colour}.png")
    write(tmp_path / "test.jsonl", [GOOD | {"image": "blue.png"}])
    return tmp_path


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


def config(*entries: str | dict[str, Any], **more: Any) -> DataConfig:
    """Files of the training split; validation is not split off, so that counts stay plain."""
    given = [{"path": entry} if isinstance(entry, str) else entry for entry in entries]
    files = {"train": given, "validation": [{"path": "validation.jsonl"}], "test": [{"path": "test.jsonl"}]}
    files |= more.pop("files", {})
    return DataConfig.model_validate({"kind": "files", "files": files} | more)


def load(folder: Path, *entries: str | dict[str, Any], **more: Any) -> Any:
    write(folder / "validation.jsonl", [GOOD | {"image": "green.png"}])
    return load_data(config(*entries, **more), read_truth, folder)


def test_reference_rows(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = "<thinking>It is on the left.</thinking><answer>[1, 2.5, 20, 30]</answer>"
    write(
        folder / "train.jsonl",
        [
            GOOD,
            {"problem": "<image>\nWhere?", "solution": box, "task": "detection", "image": "red.png"},
            "",
            {
                "problem": "What?",
                "solution": 'answer>["traffic light"]</answer>',
                "task": "classify",
                "image": "red.png",
            },
            {
                "problem": "And?",
                "solution": '  answer>["cat"]</answer>',
                "task": "classify",
                "image": ["red.png", "blue.png"],
            },
            {"problem": "1 + 1?", "solution": 2, "task": "math"},
        ],
    )
    with caplog.at_level(logging.WARNING):
        data = load(folder, "train.jsonl")
    items = data.split("train")
    assert [(item.task, item.question, item.truth) for item in items] == [
        ("math", "How many?", "3"),
        ("detection", "Where?", (1.0, 2.5, 20.0, 30.0)),
        ("classification", "What?", ("traffic light",)),
        ("classification", "And?", ("cat",)),
        ("math", "1 + 1?", "2"),
    ]
    assert [item.source for item in items] == [f"train.jsonl:{line}" for line in (1, 2, 4, 5, 6)]
    assert [len(item.images) for item in items] == [1, 1, 1, 2, 0]
    assert items[0].images[0] is items[1].images[0]  # checked and hashed once
    assert len({item.id for item in data.items}) == len(data.items)
    assert data.repaired == 3
    assert data.account()["repairs"] == {
        "<thinking> stands for <think>": 1,
        'the first "<" of the answer tag was lost': 2,
        "the task classify stands for classification": 2,
    }
    assert len(caplog.records) == 1
    assert "3 rows with typos" in caplog.text


def test_trl_rows(folder: Path) -> None:
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]},
    ]
    write(
        folder / "train.jsonl",
        [
            {"prompt": conversation, "images": ["red.png"], "solution": "4", "task": "math"},
            {"prompt": "Where?", "images": [{"path": "red.png"}], "answer": [1, 2, 3, 4], "task": "detection"},
        ],
    )
    first, second = load(folder, "train.jsonl").split("train")
    assert (first.question, first.truth, first.images[0].size) == ("How many?", "4", (40, 30))
    assert (second.question, second.truth) == ("Where?", (1.0, 2.0, 3.0, 4.0))


def test_json_list_knows_its_lines(folder: Path) -> None:
    (folder / "train.json").write_text(
        "[\n" + ",\n".join([json.dumps(GOOD, indent=1), '{"problem": 1}', json.dumps(GOOD)]) + "\n]\n"
    )
    with pytest.raises(DataError) as caught:
        load(folder, "train.json")
    assert [source for source, _ in caught.value.problems] == ["train.json:8"]
    data = load(folder, "train.json", bad_rows="skip")
    assert [item.source for item in data.split("train")] == ["train.json:2", "train.json:9"]


def test_rows_on_one_line_have_names_of_their_own(folder: Path) -> None:
    """As ``json.dump`` writes a list: an id that two rows share would be taken for a leak."""
    (folder / "train.json").write_text(json.dumps([GOOD, GOOD | {"problem": " "}, GOOD]))
    data = load(folder, "train.json", bad_rows="skip")
    assert [item.id for item in data.split("train")] == ["train.json:1", "train.json:1#3"]
    assert [source for source, _ in data.skipped] == ["train.json:1#2"]


def test_broken_json_list_names_the_line(folder: Path) -> None:
    (folder / "train.json").write_text('[{"problem": "a"},\n{"problem": }]')
    with pytest.raises(DataError, match=r"train\.json:2: the JSON is broken here"):
        load(folder, "train.json")


BAD_ROWS: list[tuple[Any, str]] = [
    ('{"problem": "cut', "not JSON"),
    ("[" * 100_000, ""),
    ("17", "a row must be a JSON object"),
    ({"question": "How many?"}, "none of the keys problem, prompt"),
    (GOOD | {"problem": "  "}, "not empty"),
    ({key: GOOD[key] for key in ("problem", "task", "image")}, "no truth"),
    (GOOD | {"solution": "<answer>1</answer><answer>2</answer>"}, "exactly one"),
    (GOOD | {"solution": "<thinking>so it is 3</thinking>"}, "exactly one"),
    (GOOD | {"solution": "<answer> </answer>"}, "empty"),
    (GOOD | {"solution": True}, "must be text"),
    (GOOD | {"task": "segmentation"}, "task 'segmentation' is not known"),
    (GOOD | {"task": 3}, "task must be text"),
    (GOOD | {"task": "detection", "solution": "left"}, "truth of detection"),
    (GOOD | {"task": "detection", "solution": "[0, 0, 400, 300]"}, "lies outside its image of 40x30"),
    (GOOD | {"task": "detection", "solution": "[0, 0, 9, 9]", "image": None}, "a box and no image"),
    (GOOD | {"image": "../red.png"}, "holds .."),
    (GOOD | {"image": "http://example.com/x.png"}, "URL"),
    (GOOD | {"image": "none.png"}, "does not exist"),
    (GOOD | {"image": "cut.png"}, "cannot be decoded"),
    (GOOD | {"image": 7}, "must be a path"),
    ({key: GOOD[key] for key in ("problem", "solution")}, "names no task"),
    ({"prompt": [{"role": "assistant", "content": "no"}], "solution": "1", "task": "math"}, "one user turn"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_bad_row_is_refused_with_file_line_and_reason(folder: Path, row: Any, reason: str) -> None:
    cut = (folder / "red.png").read_bytes()
    (folder / "cut.png").write_bytes(cut[: len(cut) - 30])
    write(folder / "train.jsonl", [GOOD, row, GOOD])
    with pytest.raises(DataError) as caught:
        load(folder, "train.jsonl")
    assert [source for source, _ in caught.value.problems] == ["train.jsonl:2"]
    assert reason in caught.value.problems[0][1]
    assert str(caught.value).startswith("train.jsonl:2: ")


def test_all_bad_rows_are_found_and_ten_are_printed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder / "train.jsonl", [GOOD, *[{"problem": "x"}] * 14, b"\xff".decode("latin-1")])
    with pytest.raises(DataError) as caught:
        load(folder, "train.jsonl")
    assert len(caught.value.problems) == 15
    text = str(caught.value)
    assert [f"train.jsonl:{line}: " in text for line in range(2, 17)] == [True] * 10 + [False] * 5
    assert "and 5 more bad rows" in text
    assert "15 of 16 rows of train.jsonl are bad" in text
    assert "bad_rows: skip" not in text  # most rows are bad: it is not the rows

    with caplog.at_level(logging.WARNING):
        data = load(folder, "train.jsonl", bad_rows="skip")
    assert len(data.split("train")) == 1
    assert len(data.skipped) == data.account()["skipped_rows"] == 15
    assert "15 bad rows were left out" in caplog.text
    assert "Do not skip these rows" in caplog.text

    write(folder / "train.jsonl", [GOOD, {**GOOD, "problem": "Another?"}, {"problem": "x"}])
    with pytest.raises(DataError, match=r"set data\.bad_rows: skip"):
        load(folder, "train.jsonl")


def test_bytes_that_are_not_utf8_are_one_bad_row(folder: Path) -> None:
    (folder / "train.jsonl").write_bytes(json.dumps(GOOD).encode() + b'\n{"problem": "\xff"}\n')
    with pytest.raises(DataError, match=r"train\.jsonl:2: not UTF-8"):
        load(folder, "train.jsonl")


def test_images_are_decoded_only_when_asked(folder: Path) -> None:
    cut = (folder / "red.png").read_bytes()
    (folder / "cut.png").write_bytes(cut[: len(cut) - 30])
    write(folder / "train.jsonl", [GOOD | {"image": "cut.png"}])
    item = load(folder, "train.jsonl", check_images="header").split("train")[0]
    with pytest.raises(DataError, match=r"train\.jsonl:1"):
        item.images[0].open()


def test_boxes_in_other_units_become_pixels(folder: Path) -> None:
    row = GOOD | {"task": "detection", "solution": "[0, 500, 250, 1000]", "distractors": [[0, 0, 1000, 500]]}
    write(folder / "train.jsonl", [row])
    item = load(folder, {"path": "train.jsonl", "boxes": "thousand"}).split("train")[0]
    assert item.truth == (0.0, 15.0, 10.0, 30.0)
    assert item.distractors == ((0.0, 0.0, 40.0, 15.0),)


def test_box_a_pixel_over_the_edge_is_cut(folder: Path) -> None:
    write(folder / "train.jsonl", [GOOD | {"task": "detection", "solution": "[-0.5, 0, 40.7, 30]"}])
    assert load(folder, "train.jsonl").split("train")[0].truth == (0.0, 0.0, 40.0, 30.0)


def test_image_root_task_and_domain_of_the_entry(folder: Path) -> None:
    (folder / "rows").mkdir()
    write(folder / "rows" / "train.jsonl", [{"problem": "How many?", "solution": "3", "image": "red.png"}])
    entry = {"path": "rows/train.jsonl", "image_root": ".", "task": "math", "domain": "science"}
    item = load(folder, entry).split("train")[0]
    assert (item.task, item.domain, item.images[0].size) == ("math", "science", (40, 30))
    with pytest.raises(DataError, match="does not exist"):
        load(folder, entry | {"image_root": None})
    with pytest.raises(DataError, match="not a folder"):
        load(folder, entry | {"image_root": "nowhere"})


def test_composition(folder: Path) -> None:
    write(folder / "a.jsonl", [GOOD] * 10)
    write(folder / "b.jsonl", [GOOD | {"problem": "b"}] * 4)
    (folder / "mix.yaml").write_text(
        "train_datasets:\n  - json_path: a.jsonl\n    sampling_strategy: end:30%\n  - json_path: b.jsonl\n"
        "val_datasets:\n  - {json_path: test.jsonl}\n"
    )
    data = load(
        folder, "mix.yaml", files={"validation": [{"path": "mix.yaml"}], "test": [{"path": "validation.jsonl"}]}
    )
    assert [item.source for item in data.split("train")] == [f"a.jsonl:{n}" for n in (8, 9, 10)] + [
        f"b.jsonl:{n}" for n in (1, 2, 3, 4)
    ]
    assert [item.source for item in data.split("validation")] == ["test.jsonl:1"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train_datasets: [{json_path: a.jsonl, sampling_strategy: some}]", "'some' is no sampling"),
        ("train_datasets: [{json: a.jsonl}]", "json_path is missing"),
        ("train_datasets: [{json_path: a.jsonl, sampling: all}]", "unknown key sampling"),
        ("val_datasets: []", "must hold a list train_datasets"),
        ("train_datasets: [{json_path: mix.yaml}]", "a composition too"),
        ("train_datasets: [", "not YAML"),
    ],
)
def test_bad_composition(folder: Path, text: str, reason: str) -> None:
    write(folder / "a.jsonl", [GOOD])
    (folder / "mix.yaml").write_text(text)
    with pytest.raises(DataError, match=reason):
        load(folder, "mix.yaml")


def test_a_row_in_two_splits_is_an_error_and_twice_in_one_is_kept_once(folder: Path) -> None:
    write(folder / "train.jsonl", [GOOD] * 3)
    data = load(folder, {"path": "train.jsonl", "sampling": "first:2"}, {"path": "train.jsonl", "sampling": "end:2"})
    assert (len(data.split("train")), data.repeated) == (3, 1)
    with pytest.raises(DataError, match=r"train\.jsonl:3: stands in train and in test"):
        load(folder, "train.jsonl", files={"test": [{"path": "train.jsonl", "sampling": "end:1"}]})


def test_files_of_one_name_stay_apart(folder: Path) -> None:
    (folder / "other").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "other" / "red.png")
    for path in (folder / "train.jsonl", folder / "other" / "train.jsonl"):
        write(path, [GOOD])
    assert [item.id for item in load(folder, "train.jsonl", "other/train.jsonl").split("train")] == [
        "train.jsonl:1",
        "train.jsonl~2:1",
    ]


def test_missing_and_empty_files(folder: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load(folder, "none.jsonl")
    (folder / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no rows"):
        load(folder, "empty.jsonl")


def test_validation_is_split_off_by_image(folder: Path) -> None:
    for number in range(20):
        levels = np.random.default_rng(number).integers(0, 255, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(levels).resize((60, 60)).save(folder / f"{number}.png")
        (folder / f"copy{number}.png").write_bytes((folder / f"{number}.png").read_bytes())
    rows = [
        GOOD | {"image": f"{prefix}{number}.png", "task": task, "solution": '<answer>["a"]</answer>'}
        for number in range(20)
        for prefix, task in (("", "math"), ("copy", "classification"))
    ]
    write(folder / "train.jsonl", rows)
    settings = {"validation": [], "validation_fraction": 0.2}
    data = load(folder, "train.jsonl", files=settings)
    train, validation = data.split("train"), data.split("validation")
    assert len(validation) == 8
    assert {item.task for item in validation} == {"math", "classification"}
    assert not {item.images[0].key for item in train} & {item.images[0].key for item in validation}


def test_the_drawn_world_loads_the_same_way() -> None:
    counts = {"detection": 3, "math": 2}
    shapes = {"train": counts, "validation": counts, "test": counts, "ood_test": {"classification": 2}}
    shapes["pool"], shapes["general"] = {"arithmetic": 2}, {"arithmetic": 3}
    data = load_data(DataConfig.model_validate({"shapes": shapes}), read_truth)
    assert data.account()["items"] == {
        "train": counts,
        "validation": counts,
        "test": counts,
        "ood_test": {"classification": 2},
        "pool": {"math": 2},  # arithmetic: text-only math
        "general": {"math": 3},
    }


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({"kind": "files"}, "files.train is empty"),
        ({"kind": "files", "files": {"train": [{"path": "a"}]}}, "files.test is empty"),
        ({"files": {"train": [{"path": "a"}]}}, "kind is shapes"),
        ({"shapes": {"train": {"detection": -1}}}, "negative"),
        ({"shapes": {"train": {"counting": 1}}}, "detection"),
        ({"max_pixel": 3}, "max_pixel"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DataConfig.model_validate(section)


def test_composition_takes_no_sampling_of_its_own() -> None:
    with pytest.raises(ValueError, match="does not apply to a composition"):
        FileEntry(path="mix.yaml", sampling="first:3")
