"""Data sets of conversations: the question as it is asked and the answer at the end of its solution."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from published_files import items, load, picture, problems, raw, write_json, write_lines
from pyarrow import parquet

from curr_reft.errors import DataError

GEO = "<image>\nAs shown, AB is parallel to CD. Then angle 1 is ()\nChoices:\nA:25°\nB:65°\nC:35°\nD:45°"
HINT = "Hint: Please answer the question and provide the correct option letter, e.g., A, B, C, D, at the end.\n"


def talk(image: str | None, question: str, solution: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": solution}]
    return {**({"image": image} if image else {}), "conversations": turns, **more}


ROWS = [
    talk("geo3k/train/0/img.png", GEO, "Angles add up to 90°, so it is 65°. Therefore, option B is right.\nAnswer:B"),
    talk("geoqa_plus/1.png", GEO, "It is hard to tell."),
    talk("geoqa_plus/1.png", "<image>\nDescribe the figure.", "Two lines.", conversations=[]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("geo3k/train/0/img.png", "geoqa_plus/1.png", "IconQA/images/1.png"):
        picture(tmp_path / "images" / name)
    return tmp_path


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_geo170k(folder: Path, suffix: str) -> None:
    path = folder / f"qa_tuning.{suffix}"
    if suffix == "json":
        write_json(path, ROWS)
    elif suffix == "jsonl":
        write_lines(path, ROWS)
    else:
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    data = load(folder, {"path": path.name, "format": "geo170k", "image_root": "images"}, bad_rows="skip")
    (item,) = data.split("train")
    assert (item.task, item.question, item.truth) == ("math", GEO.removeprefix("<image>\n"), "B")
    assert item.images[0].size == (64, 48)
    sources = {"json": ("[0]", "[1]", "[2]"), "jsonl": "123", "parquet": "123"}[suffix]
    assert [item.source, *(source for source, _ in data.skipped)] == [f"{path.name}:{place}" for place in sources]
    assert "announces no answer" in data.skipped[0][1]
    assert "one turn of human and one of gpt; found none" in data.skipped[1][1]


def test_pictures_inside_a_table(folder: Path) -> None:
    inside = {"bytes": (folder / "images/geoqa_plus/1.png").read_bytes(), "path": "1.png"}
    parquet.write_table(pa.Table.from_pylist([ROWS[0] | {"image": inside}]), folder / "geo.parquet")
    (item,) = items(folder, {"path": "geo.parquet", "format": "geo170k"})
    assert (item.truth, item.images[0].size) == ("B", (64, 48))


MATHV = [
    (
        f"<image>\n{HINT}Question: Which?\nChoices:\n(A) red\n(B) blue",
        "The answer is B",
        "Which?\nChoices:\n(A) red\n(B) blue",
        "B",
    ),
    (
        "<image>\nHint: Please answer the question requiring an integer answer and provide the final value, "
        "e.g., 1, 2, 3, at the end.\nQuestion: How many?",
        "The answer is 12",
        "How many?",
        "12",
    ),
    ("Question: How many?\n<image>", "The answer is 3.5", "How many?", "3.5"),
]


@pytest.mark.parametrize(("asked", "solution", "question", "answer"), MATHV, ids=range(len(MATHV)))
def test_mathv360k(folder: Path, asked: str, solution: str, question: str, answer: str) -> None:
    row = talk("IconQA/images/1.png", asked, solution, id="identity_0")
    path = write_json(folder / "train_samples_all_tuning.json", [row])
    (item,) = items(folder, {"path": path.name, "format": "mathv360k", "image_root": "images"})
    assert (item.question, item.truth) == (question, answer)


COT = (
    "<SUMMARY> I look. </SUMMARY>\n\n<CAPTION> Two. </CAPTION>\n\n<REASONING> So. </REASONING>\n\n"
    "<CONCLUSION> {} </CONCLUSION>"
)


def test_llava_cot(folder: Path) -> None:
    options = "Which?\nChoices:\nA. red\nB. blue"
    told = [
        ("How many dogs are there?", "2", "2"),
        (options, "B", "B"),
        (options, "The answer is B.", "B"),
        ("Where is the dog?", "The dog sits on a red sofa beside the door.", None),
        ("Where is the dog?", "on the sofa", "on the sofa"),
        (options, "C", None),
    ]
    rows = [talk("geoqa_plus/1.png", question, COT.format(end), id=str(n)) for n, (question, end, _) in enumerate(told)]
    path = write_lines(folder / "train.jsonl.", rows).rename(folder / "cot.jsonl")
    data = load(folder, {"path": path.name, "format": "llava_cot", "image_root": "images"}, bad_rows="skip")
    assert [item.truth for item in data.split("train")] == [answer for _, _, answer in told if answer]
    assert [source for source, _ in data.skipped] == ["cot.jsonl:4", "cot.jsonl:6"]


def test_broken_rows_are_named(folder: Path) -> None:
    broken = [
        {"conversations": "no"},
        7,
        talk("a.png", "<image>", "Answer: 3"),
        talk("a.png", "How many?", " "),
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 2},
    ]
    found = problems(raw("geo170k", write_json(folder / "a.json", broken)))
    assert [source for source, _ in found] == [f"a.json:[{place}]" for place in range(5)]
    reasons = ("must be a list", "must be a JSON object", "holds no question", "value is empty", "one turn of human")
    assert all(reason in told for reason, (_, told) in zip(reasons, found, strict=True))


def test_what_an_entry_asks_for_is_checked(folder: Path) -> None:
    path = write_json(folder / "a.json", ROWS)
    with pytest.raises(DataError, match="cannot be read as task 'detection'"):
        raw("geo170k", path, "detection")
    with pytest.raises(DataError, match=r"a\.txt holds no conversations"):
        raw("geo170k", path.rename(folder / "a.txt"))
