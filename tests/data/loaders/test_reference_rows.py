"""The reference data set in its published tree: lists of files with sampling rules, and its typos."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from published_files import load, picture, write_json, write_lines

from curr_reft.data.config import DataConfig
from curr_reft.data.load import LoadedData, load_data
from curr_reft.data.styles import LOST_BRACKET, THINKING
from curr_reft.errors import DataError
from curr_reft.tasks import TASKS

OPEN = "grpo_data/train/open"
DETECTION, CLASSES, MATH = (
    f"{OPEN}/coco_3k_2task/detection_coco_train.jsonl",
    f"{OPEN}/coco_3k_2task/classify_v2_coco_train.jsonl",
    f"{OPEN}/openr1_8k/math_math_train.jsonl",
)


def thought(answer: str) -> str:
    """Stage 3 as the data card writes it."""
    return f"<thinking>Look closely.</thinking><answer>{answer}</answer>"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Ten rows a task as published, pictures under ``grpo_data/images``, and a composition of them."""
    for number in range(30):
        picture(tmp_path / f"grpo_data/images/{number}.jpg", 80, 60)
    write_lines(
        tmp_path / DETECTION,
        [
            {"problem": "Where?", "solution": thought("[1, 2, 30, 40]"), "task": "detection", "image": f"{number}.jpg"}
            for number in range(10)
        ],
    )
    write_lines(
        tmp_path / CLASSES,
        [
            {"problem": "What?", "solution": "answer>['dog', 'traffic light']</answer>", "task": "classify"}
            | {"image": f"{number}.jpg"}
            for number in range(10, 20)
        ],
    )
    write_json(
        tmp_path / MATH.replace(".jsonl", ".json"),
        [
            {
                "problem": "How many?",
                "solution": f"<answer> {number} </answer>",
                "task": "math",
                "image": f"{number}.jpg",
            }
            for number in range(20, 30)
        ],
        indent=2,
    )
    lines = ["train_datasets:"]
    for path, sampling in (
        (DETECTION, "first:3"),
        (CLASSES, "end:20%"),
        (MATH.replace(".jsonl", ".json"), "random:50%"),
    ):
        lines += [f"  - json_path: ../{path.removeprefix('grpo_data/')}", f"    sampling_strategy: {sampling}"]
    (tmp_path / "grpo_data/data_config").mkdir()
    (tmp_path / "grpo_data/data_config/mix.yaml").write_text("\n".join(lines) + "\n")
    return tmp_path


def read(tree: Path, path: str = "grpo_data/data_config/mix.yaml") -> LoadedData:
    return load(tree, {"path": path, "image_root": "grpo_data/images"})


def test_a_composition_of_the_published_tree(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = read(tree)
    found = data.split("train")
    assert [item.task for item in found] == ["detection"] * 3 + ["classification"] * 2 + ["math"] * 5
    assert [item.source.rsplit(":")[1] for item in found[:5]] == ["1", "2", "3", "9", "10"]
    assert found[0].truth == (1.0, 2.0, 30.0, 40.0)
    assert found[3].truth == ("dog", "traffic light")
    assert [item.truth for item in found[5:]] == [item.images[0].path.removesuffix(".jpg") for item in found[5:]]  # type: ignore[attr-defined]
    assert (data.repaired, data.repairs) == (
        5,
        {THINKING: 3, LOST_BRACKET: 2, "the task classify stands for classification": 2},
    )
    assert len(caplog.records) == 1
    assert "5 rows with typos of the reference data were repaired" in caplog.text
    assert read(tree).split("train") == found  # random:50% is the same draw


def test_files_of_the_earlier_stages_are_no_open_questions(tree: Path) -> None:
    """Stages 1 and 2 are compiled from open items; their published files hold decisions and letters."""
    path = tree / "grpo_data/train/judge.jsonl"
    row = {
        "problem": "Is [1, 2, 3, 4] right?",
        "solution": "answer>yes</answer>",
        "task": "detection",
        "image": "1.jpg",
    }
    write_lines(path, [row])
    with pytest.raises(DataError, match=r"judge\.jsonl:1: truth of detection"):
        read(tree, "grpo_data/train/judge.jsonl")


def test_broken_rows_are_named_in_their_file(tree: Path) -> None:
    file = tree / DETECTION
    lines = file.read_text().splitlines()
    lines[0] = lines[0][:40]
    lines[2] = json.dumps(json.loads(lines[2]) | {"image": "missing.jpg"})
    file.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        read(tree)
    assert [source for source, _ in caught.value.problems] == [
        "detection_coco_train.jsonl:1",
        "detection_coco_train.jsonl:3",
    ]


def test_a_composition_may_be_of_another_format(tree: Path) -> None:
    """What an entry says about its rows holds for all files it is composed of."""
    for name in ("a", "b"):
        (tree / f"{name}.csv").write_text(f"Frage,Antwort\n1 + 1 ({name})?,2\n2 + 2 ({name})?,4\n")
    (tree / "mix.yaml").write_text(
        "train_datasets: [{json_path: a.csv, sampling_strategy: 'first:1'}, {json_path: b.csv}]\n"
    )
    entry = {"path": "mix.yaml", "columns": {"question": "Frage", "answer": "Antwort"}, "task": "math"}
    assert [item.source for item in load(tree, entry).split("train")] == ["a.csv:2", "b.csv:2", "b.csv:3"]


def test_one_row_in_two_splits_is_found_in_any_format(tree: Path) -> None:
    (tree / "rows.csv").write_text("question,answer\n1 + 1?,2\n2 + 2?,4\n3 + 3?,6\n")
    row = {"path": "rows.csv", "task": "math"}
    files = {"train": [row | {"sampling": "first:2"}], "test": [row | {"sampling": "end:2"}], "validation": [row]}
    config = DataConfig.model_validate({"kind": "files", "files": files})
    with pytest.raises(DataError, match=r"rows\.csv:2: stands in train and in validation"):
        load_data(config, lambda task, truth: TASKS[task].read_truth(truth), tree)


def test_the_pool_may_leave_a_row_to_the_split_that_has_it(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Random draws of training and pool from one file meet; nothing else may share a row, even then."""
    (tree / "rows.csv").write_text("question,answer\n1 + 1?,2\n2 + 2?,4\n3 + 3?,6\n5 + 5?,10\n")
    (tree / "held.csv").write_text("question,answer\n4 + 4?,8\n")
    row = {"path": "rows.csv", "task": "math"}

    def read(test: list[Any]) -> LoadedData:
        files = {"train": [row | {"sampling": "first:2"}], "validation": [row | {"path": "held.csv"}], "pool": [row]}
        config = DataConfig.model_validate({"kind": "files", "files": files | {"test": test}, "leaking_rows": "skip"})
        return load_data(config, lambda task, truth: TASKS[task].read_truth(truth), tree)

    data = read(test=[row | {"sampling": "end:1"}])
    assert [(item.split, item.source) for item in data.items if item.source.startswith("rows")] == [
        ("train", "rows.csv:2"),
        ("train", "rows.csv:3"),
        ("test", "rows.csv:5"),
        ("pool", "rows.csv:4"),
    ]
    assert data.repeated == 3
    assert "3 rows are listed more than once and were kept once" in caplog.text
    with pytest.raises(DataError, match=r"rows\.csv:2: stands in train and in test"):
        read(test=[row])
