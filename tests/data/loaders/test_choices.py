"""Data sets with lettered choices, and the small pools of self-improvement."""

import json
from pathlib import Path
from typing import Any

import pytest
from published_files import items, load, picture, problems, raw, write_json, write_lines

from curr_reft.errors import DataError

GEOMETRY = {
    "id": 2409,
    "annotat_text": "Find $y$.",
    "problem_text": "Find y.",
    "compact_text": "Find y.",
    "choices": ["21", "21 \\sqrt { 2 }", "21 \\sqrt { 3 }", "42"],
    "compact_choices": ["21", "21\\sqrt{2}", "21\\sqrt{3}", "42"],
    "answer": "C",
    "data_type": "train",
    "problem_type_goal": ["Length"],
    "problem_type_graph": ["Triangle"],
}
LOGIC = {"diagram_logic_form": ["Equals(LengthOf(Line(A, C)), 21)", "Perpendicular(Line(A, B), Line(A, C))"]}


@pytest.fixture
def geometry(tmp_path: Path) -> Path:
    for number in (10, 2):
        folder = tmp_path / "geometry3k" / "train" / str(number)
        write_json(folder / "data.json", GEOMETRY | {"id": number, "annotat_text": f"Find $y_{{{number}}}$."})
        write_json(folder / "logic_form.json", LOGIC)
        picture(folder / "img_diagram.png", 60 + number)
    return tmp_path


def test_geometry3k(geometry: Path) -> None:
    entry = {"path": "geometry3k/train", "format": "geometry3k"}
    first, second = items(geometry, entry)
    lines = ["Find $y_{2}$.", "Choices:", "A. 21", "B. 21 \\sqrt { 2 }", "C. 21 \\sqrt { 3 }", "D. 42"]
    assert (first.question, first.truth) == ("\n".join(lines), "C")
    assert [item.source for item in (first, second)] == ["train/2/data.json", "train/10/data.json"]  # by number
    assert [item.images[0].size[0] for item in (first, second)] == [62, 70]
    value, _ = items(geometry, entry | {"options": {"answer": "value"}})
    assert (value.question, value.truth) == ("Find $y_{2}$.", "21 \\sqrt { 3 }")
    assert value.distractors == ("21", "21 \\sqrt { 2 }", "42")
    told, _ = items(geometry, entry | {"options": {"answer": "value", "logic_forms": "add"}})
    assert told.question.endswith("The diagram shows: " + "; ".join(LOGIC["diagram_logic_form"]) + ".")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"answer": "E"}, "the right choice is number 4"),
        ({"answer": "21"}, "the right choice is number -1"),
        ({"choices": ["1", "", "3"]}, "a choice is empty"),
        ({"choices": None}, "choices must be a list"),
        ({"annotat_text": None, "problem_text": " "}, "problem_text is empty"),
    ],
)
def test_a_broken_problem_is_named(geometry: Path, broken: dict[str, Any], reason: str) -> None:
    write_json(geometry / "geometry3k/train/2/data.json", GEOMETRY | broken)
    ((source, told),) = problems(raw("geometry3k", geometry / "geometry3k" / "train"))
    assert (source, reason in told) == ("train/2/data.json", True), told


def test_a_folder_without_problems(geometry: Path) -> None:
    with pytest.raises(DataError, match=r"holds no folders with a data\.json; name one split"):
        raw("geometry3k", geometry / "geometry3k")
    (geometry / "geometry3k/train/2/data.json").write_text("{")
    assert "data.json is not usable JSON" in problems(raw("geometry3k", geometry / "geometry3k/train"))[0][1]


def problem(split: str, image: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "question": "Which of these states is farthest north?",
        "choices": ["West Virginia", "Louisiana", "Arizona", "Oklahoma"],
        "answer": 0,
        "hint": "Look at the map." if image else "",
        "image": image,
        "task": "closed choice",
        "grade": "grade2",
        "subject": "social science",
        "lecture": "Maps have four cardinal directions.",
        "solution": "To find the answer, look at the compass rose.",
        "split": split,
        **more,
    }


@pytest.fixture
def science(tmp_path: Path) -> Path:
    folder = tmp_path / "scienceqa"
    write_json(
        folder / "problems.json",
        {"1": problem("train", "image.png"), "2": problem("train", answer=3), "5": problem("test", "image.png")},
        indent=2,
    )
    write_json(folder / "pid_splits.json", {"train": ["1", "2"], "test": ["5"], "minitest": ["5"]})
    picture(folder / "images/train/1/image.png")
    picture(folder / "images/test/5/image.png", 50)
    return tmp_path


def test_science_qa(science: Path) -> None:
    entry = {"path": "scienceqa", "format": "science_qa", "options": {"split": "train"}}
    shown, text_only = items(science, entry)
    assert shown.question.splitlines()[:4] == [
        "Look at the map.",
        "Which of these states is farthest north?",
        "Choices:",
        "A. West Virginia",
    ]
    assert (shown.truth, shown.images[0].size, text_only.truth, text_only.images) == ("A", (64, 48), "D", ())
    assert shown.source == "scienceqa/problems.json:1"
    (small,) = items(science, entry | {"options": {"split": "minitest"}})
    assert small.images[0].size == (50, 48)  # under the large split
    for images, truths in (("only", ["A"]), ("none", ["D"])):
        assert [i.truth for i in items(science, entry | {"options": {"split": "train", "images": images}})] == truths
    lecture, _ = items(science, entry | {"options": {"split": "train", "context": "lecture"}})
    assert lecture.question.startswith("Maps have four cardinal directions.\nLook at the map.\nWhich")
    bare, _ = items(science, entry | {"options": {"split": "train", "context": "none"}})
    assert bare.question.startswith("Which")


def test_broken_science_problems_are_named(science: Path) -> None:
    path = science / "scienceqa"
    content = json.loads((path / "problems.json").read_text())
    content["1"] |= {"answer": 4}
    content["2"] |= {"choices": "none"}
    write_json(path / "problems.json", content)
    write_json(path / "pid_splits.json", {"train": ["1", "2", "9"]})
    found = problems(raw("science_qa", path, split="train"))
    assert [source for source, _ in found] == [
        "scienceqa/problems.json:1",
        "scienceqa/problems.json:2",
        "scienceqa/pid_splits.json:9",
    ]
    with pytest.raises(DataError, match=r"options\.split is 'tests'"):
        raw("science_qa", path, split="tests")
    (path / "pid_splits.json").unlink()
    with pytest.raises(DataError, match=r"holds no pid_splits\.json"):
        raw("science_qa", path, split="train")


def test_geomverse(tmp_path: Path) -> None:
    image = "GeomVerse/TRAIN/TRAIN_MIX/TRAIN_MIX_1/images/1.jpeg"
    picture(tmp_path / image)
    row = {"question": "Compute the area.", "label": 46.58, "cot": "The area is 46.58.", "image_path": image}
    path = write_lines(tmp_path / "GeomVerse/TRAIN/TRAIN_MIX/data.jsonl", [row, row | {"label": None}])
    entry = {"path": "GeomVerse/TRAIN/TRAIN_MIX/data.jsonl", "format": "geomverse", "image_root": "."}
    data = load(tmp_path, entry, bad_rows="skip")
    assert [item.truth for item in data.split("train")] == ["46.58"]
    assert data.skipped == ((f"{path.name}:2", "label must be a number, not None"),)


def test_visual7w(tmp_path: Path) -> None:
    pairs = [
        {
            "image_id": 2323054,
            "qa_id": 871917 + n,
            "question": "What type of flooring?",
            "answer": "Wood.",
            "multiple_choices": ["Tile.", "Carpet.", "Cement."],
            "type": "what",
        }
        for n in range(12)
    ]
    images = [
        {"image_id": 2323054, "split": split, "filename": "v7w_2323054.jpg", "qa_pairs": pairs}
        for split in ("train", "val")
    ]
    picture(tmp_path / "images/v7w_2323054.jpg")
    path = write_json(tmp_path / "dataset_v7w_telling.json", {"dataset": "visual7w-telling", "images": images})
    entry = {"path": path.name, "format": "visual7w", "image_root": "images", "options": {"split": "train"}}
    found = items(tmp_path, entry)
    assert len(found) == 12
    assert found[0].source == "dataset_v7w_telling.json:images[0].qa_pairs[0]"
    for item in found:  # the letter is that of the answer, wherever it was put
        assert f"{item.truth}. Wood." in item.question.splitlines()
    assert {item.truth for item in found} == set("ABCD")
    assert [item.question for item in items(tmp_path, entry)] == [item.question for item in found]
    broken = [images[0] | {"qa_pairs": [pairs[0] | {"answer": "Tile."}]}, {"split": "train"}]
    write_json(path, {"images": broken})
    (first, second) = problems(raw("visual7w", path, split="train"))
    assert (first[0], second[0]) == (f"{path.name}:images[0].qa_pairs[0]", f"{path.name}:images[1]")
    assert "one of the wrong choices too" in first[1]


def test_vsr(tmp_path: Path) -> None:
    row = {
        "image": "000000050403.jpg",
        "image_link": "-",
        "caption": "The teddy bear is in front of the person.",
        "label": 1,
        "relation": "in front of",
        "annotator_id": 31,
    }
    picture(tmp_path / "images/000000050403.jpg")
    path = write_lines(
        tmp_path / "dev.jsonl", [row, row | {"label": 0, "caption": "It is behind."}, row | {"label": 2}]
    )
    data = load(tmp_path, {"path": path.name, "format": "vsr", "image_root": "images"}, bad_rows="skip")
    assert [item.truth for item in data.split("train")] == ["yes", "no"]
    assert data.split("train")[0].question.endswith('"The teddy bear is in front of the person."')
    assert data.skipped == (("dev.jsonl:3", "label must be 0 or 1, not 2"),)
