"""Rows that are JSON and no data: keys that stand twice, half characters, numbers that are none, marks nobody sees."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curr_reft.data.config import DataConfig, FileEntry, FilesConfig
from curr_reft.data.load import LoadedData, load_data
from curr_reft.errors import DataError
from curr_reft.tasks import TASKS

GOOD = {"problem": "one and one", "solution": "2", "task": "math"}


def row(**keys: Any) -> str:
    return json.dumps({**GOOD, **keys})


def loaded(folder: Path, lines: list[str], name: str = "train.jsonl", **entry: Any) -> LoadedData:
    whole = "[\n" + ",\n".join(lines) + "\n]" if name.endswith(".json") else "\n".join(lines)
    (folder / name).write_text(whole, encoding="utf-8")
    (folder / "test.jsonl").write_text(row(problem="ten and one", solution="11"))
    files = FilesConfig(
        train=(FileEntry(path=str(folder / name), **entry),), test=(FileEntry(path=str(folder / "test.jsonl")),)
    )
    config = DataConfig(kind="files", files=files, bad_rows="skip")
    return load_data(config, lambda task, raw: TASKS[task].read_truth(raw), quiet=True)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"problem": "a", "solution": "1", "solution": "2", "task": "math"}', "the key 'solution' stands twice"),
        ('{"problem": "a", "solution": {"x": 1, "x": 2}, "task": "math"}', "the key 'x' stands twice"),
        (row(problem="a \ud800 b"), "the question holds half a character, '\\ud800'"),
        (row(solution="\udfff"), "the truth holds half a character"),
        (row(solution=["dog", "\ud800"], task="classification"), "the truth holds half a character"),
        (row(image="\ud800.png"), ""),
        (row(problem="\u200b \u2060"), "must be a text that is not empty"),
        ('{"problem": "a", "solution": NaN, "task": "math"}', "must be a finite number, not nan"),
        ('{"problem": "a", "solution": -1e999, "task": "math"}', "must be a finite number, not -inf"),
        (row(distractors=[float("inf")]), "must be a finite number, not inf"),
        (row(solution="42\u200b"), "holds U+200B (zero width space)"),
        (row(solution="\u200f42"), "holds U+200F (right-to-left mark)"),
        (row(solution="４２"), "holds U+FF14 (fullwidth digit four)"),
        (row(solution="٤٢"), "holds U+0664 (arabic-indic digit four)"),
        (row(distractors=["4\u200b"]), "distractor of math: "),
    ],
)
def test_what_no_plain_answer_could_equal_is_a_bad_row(tmp_path: Path, line: str, told: str) -> None:
    data = loaded(tmp_path, [row(), line, row(problem="two and one", solution="3")])
    ((source, reason),) = data.skipped
    assert source == "train.jsonl:2"
    assert told in reason
    assert reason.encode()  # can be written to a file itself
    assert {item.truth for item in (*data.split("train"), *data.split("validation"))} == {"2", "3"}


def test_a_key_that_stands_twice_in_a_list_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.json:3: .*the key 'task' stands twice in one object"):
        loaded(tmp_path, [row(), '{"problem": "a", "solution": "1", "task": "math", "task": "math"}'], "train.json")


def test_a_box_in_the_first_pixel_is_taken_for_fractions(tmp_path: Path) -> None:
    for name, size in (("a.png", (40, 30)), ("b.png", (1, 1))):
        Image.effect_noise((40, 30), 50).convert("RGB").resize(size).save(tmp_path / name)
    whole = {"problem": "where", "solution": [0, 0, 1, 1], "task": "detection"}
    lines = [json.dumps({**whole, "image": name}) for name in ("a.png", "b.png")]
    ((source, reason),) = loaded(tmp_path, lines).skipped
    assert source == "train.jsonl:1"
    assert "lies in the first pixel of its image of 40x30; if boxes are given as fractions" in reason
    data = loaded(tmp_path, lines, boxes="unit")
    assert not data.skipped
    truths = {item.source: item.truth for item in (*data.split("train"), *data.split("validation"))}
    assert truths == {"train.jsonl:1": (0, 0, 40, 30), "train.jsonl:2": (0, 0, 1, 1)}
