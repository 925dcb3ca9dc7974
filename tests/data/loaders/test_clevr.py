"""CLEVR and Super-CLEVR: counts of questions and of scenes."""

from pathlib import Path
from typing import Any

import pytest
from published_files import items, picture, problems, raw, write_json, write_lines

from curr_reft.errors import DataError


def question(number: int, image: int, text: str, answer: Any, style: str) -> dict[str, Any]:
    if style == "clevr":
        name, split = f"CLEVR_val_{image:06}.png", "val"
        more: dict[str, Any] = {"program": [{"inputs": [], "function": "scene", "value_inputs": []}]}
    else:
        name, split = f"superCLEVR_new_{image:06}.png", "new"
        more = {"image": name[:-4], "template_filename": "zero_hop.json"}
    fields = {"split": split, "image_filename": name, "image_index": image, "question": text, "answer": answer}
    return {**fields, "question_index": number, "question_family_index": 0, **more}


ASKED = {
    "clevr": [("How many cubes are there?", "3"), ("Is there a ball?", "yes"), ("What is it made of?", "rubber")],
    "super_clevr": [
        ("How many cars are there?", 3),
        ("Are there fewer cars than trucks?", True),
        ("What size?", "small"),
    ],
}
ANSWERS = {"clevr": ["3", "yes", "rubber"], "super_clevr": ["3", "yes", "small"]}


@pytest.mark.parametrize("style", ["clevr", "super_clevr"])
def test_questions(tmp_path: Path, style: str) -> None:
    questions = [question(n, n, text, answer, style) for n, (text, answer) in enumerate(ASKED[style])]
    for each in questions:
        picture(tmp_path / "images" / each["image_filename"])
    path = write_json(tmp_path / "questions.json", {"info": {"split": "val"}, "questions": questions}, indent=2)
    entry = {"path": path.name, "format": style, "image_root": "images"}
    (count,) = items(tmp_path, entry)
    assert (count.task, count.question, count.truth) == ("math", ASKED[style][0][0], "3")
    assert count.source == "questions.json:questions[0]"
    everything = items(tmp_path, entry | {"options": {"answers": "all"}})
    assert [item.truth for item in everything] == ANSWERS[style]
    assert [item.truth for item in items(tmp_path, entry | {"options": {"answers": "yes_no"}})] == ["yes"]
    chosen = items(tmp_path, entry | {"options": {"answers": "all", "images": "1-1"}})
    assert [item.truth for item in chosen] == ANSWERS[style][1:2]


def thing(color: str, shape: str) -> dict[str, Any]:
    more = {"rotation": 139.9, "pixel_coords": [[338, 226, 11.1], [640, 480]], "3d_coords": [0.1, 0.2, 0.3]}
    return {"size": "small", "color": color, "material": "rubber", "shape": shape, **more}


def test_scenes(tmp_path: Path) -> None:
    things = [thing("red", "truck"), thing("red", "tandem"), thing("blue", "truck")]
    scenes = [
        {"image_filename": f"superCLEVR_new_{n:06}.png", "image_index": n, "split": "new", "objects": things[:n]}
        for n in (3, 0)
    ]
    for scene in scenes:
        picture(tmp_path / "images" / scene["image_filename"])
    path = write_json(tmp_path / "superCLEVR_scenes.json", {"info": {}, "scenes": scenes})
    entry = {"path": path.name, "format": "super_clevr", "image_root": "images"}
    assert [(item.question, item.truth) for item in items(tmp_path, entry)] == [
        ("How many objects are in the image?", "3"),
        ("How many objects are in the image?", "0"),
    ]
    by_color = items(tmp_path, entry | {"options": {"ask": "color"}})
    assert {item.question: item.truth for item in by_color if "color" in item.question} == {
        "How many objects of color red are in the image?": "2",
        "How many objects of color blue are in the image?": "1",
    }
    assert by_color[0].source == "superCLEVR_scenes.json:scenes[0].red"


def test_the_counting_questions_of_r1_v(tmp_path: Path) -> None:
    row = {"image_path": "./images/superCLEVR_new_025000.png", "ground_truth": 4}
    picture(tmp_path / row["image_path"])
    text = "How many different items are there in the image?"
    path = write_lines(tmp_path / "superclevr_test200_counting_problems.jsonl", [row | {"question": text}])
    (item,) = items(tmp_path, {"path": path.name, "format": "super_clevr"})
    assert (item.question, item.truth, item.source) == (text, "4", f"{path.name}:1")
    write_lines(path, [row, row | {"question": text, "ground_truth": None}])
    assert problems(raw("super_clevr", path)) == [
        (f"{path.name}:1", "has no key question; keys found: image_path, ground_truth"),
        (f"{path.name}:2", "answer must be text, a whole number, true or false, not None"),
    ]


def test_broken_rows_are_named(tmp_path: Path) -> None:
    good = question(0, 0, "How many?", "3", "clevr")
    hidden = {key: value for key, value in good.items() if key != "answer"}
    path = write_json(tmp_path / "q.json", {"questions": [good, hidden, good | {"answer": 1.5}, 7]})
    found = problems(raw("clevr", path))
    assert [source for source, _ in found] == [f"q.json:questions[{n}]" for n in (1, 2, 3)]
    assert "test split is published without answers" in found[0][1]
    scenes = write_json(tmp_path / "s.json", {"scenes": [{"image_filename": "a.png"}, {"objects": [3]}]})
    assert [source for source, _ in problems(raw("clevr", scenes))] == ["s.json:scenes[0]", "s.json:scenes[1]"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"answers": "count"}, "did you mean counts"),
        ({"images": "30-20"}, "write the first and the last, as 25000-29999"),
        ({"ask": "colour"}, "did you mean color"),
    ],
)
def test_options_are_checked(tmp_path: Path, options: dict[str, str], reason: str) -> None:
    path = write_json(tmp_path / "q.json", {"questions": []})
    with pytest.raises(DataError, match=reason):
        raw("clevr", path, **options)
    with pytest.raises(DataError, match="neither a list questions nor a list scenes"):
        raw("clevr", path)
