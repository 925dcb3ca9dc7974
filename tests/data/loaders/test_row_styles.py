"""Rows as other trainers take them become the items they mean, or are named with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from published_files import items, load, picture, write_json, write_lines

from curr_reft.data.item import Item
from curr_reft.errors import DataError

SYSTEM = {"role": "system", "content": "You are a useful and harmless assistant"}


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        picture(tmp_path / f"{name}.png", 60, 40)
    return tmp_path


def read(folder: Path, rows: list[Any], **entry: Any) -> list[Item]:
    write_lines(folder / "rows.jsonl", rows)
    return items(folder, {"path": "rows.jsonl", **entry})


def refused(folder: Path, row: dict[str, Any], **entry: Any) -> str:
    """Why the second of three rows cannot be used."""
    good = {"problem": "1 + 1?", "solution": "2", "task": "math"}
    write_lines(folder / "rows.jsonl", [good, row, good] if entry.get("format", "auto") == "auto" else ["", row])
    with pytest.raises(DataError) as caught:
        load(folder, {"path": "rows.jsonl", "task": "math", **entry})
    found = dict(caught.value.problems)
    return found["rows.jsonl:2"]


# --- TRL ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["auto", "trl"])
def test_trl(folder: Path, format: str) -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "How many?"}]
    found = read(
        folder,
        [
            {"prompt": [SYSTEM, said("user", parts)], "images": ["a.png"], "solution": "4"},
            {"prompt": [said("user", "How many?")], "image": "a.png", "answer": 5},
            {"prompt": "Which is larger?", "images": [{"path": "a.png", "bytes": None}, "b.png"], "ground_truth": "b"},
            {"prompt": "1 + 1?", "solution": "<think>easy</think><answer>2</answer>", "images": []},
        ],
        format=format,
        task="math",
    )
    assert [(item.question, item.truth, len(item.images)) for item in found] == [
        ("How many?", "4", 1),
        ("How many?", "5", 1),
        ("Which is larger?", "b", 2),
        ("1 + 1?", "2", 0),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": [said("user", "a"), said("assistant", "b"), said("user", "c")], "answer": "1"}, "one user turn"),
        ({"prompt": [said("user", [{"type": "video"}])], "answer": "1"}, "neither text nor image"),
        ({"prompt": "How many?", "completion": "3"}, "no truth"),
        ({"prompt": [said("user", [{"type": "image"}, {"type": "text", "text": "x"}])], "answer": "1"}, "0 images"),
        ({"prompt": "How many?", "images": [{"bytes": "iVBORw0KGgo=", "path": None}], "answer": "1"}, "parquet"),
    ],
)
def test_trl_refused(folder: Path, row: dict[str, Any], reason: str) -> None:
    assert reason in refused(folder, row, format="trl")


# --- EasyR1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["auto", "easyr1"])
def test_easyr1(folder: Path, format: str) -> None:
    found = read(
        folder,
        [
            {"images": ["a.png"], "problem": "<image>Find x.", "answer": "48"},
            {"images": ["a.png", "b.png"], "problem": "<image><image>Is <b> right?", "answer": "yes"},
            {"images": ["a.png", "b.png"], "problem": "Is <image> left of <image>?", "answer": "no"},
            {"problem": "Solve 2x = 4.", "answer": 2},
        ],
        format=format,
        task="math",
    )
    assert [(item.question, item.truth, len(item.images)) for item in found] == [
        ("Find x.", "48", 1),
        ("Is <b> right?", "yes", 2),
        ("Is image 1 left of image 2?", "no", 2),
        ("Solve 2x = 4.", "2", 0),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"problem": "<image><image>x?", "answer": "1", "images": ["a.png"]}, "2 <image> placeholders"),
        ({"problem": "x?", "answer": "1", "videos": ["a.mp4"]}, "has videos"),
        ({"problem": "x?"}, "no answer"),
        ({"answer": "x?"}, "no problem"),
    ],
)
def test_easyr1_refused(folder: Path, row: dict[str, Any], reason: str) -> None:
    assert reason in refused(folder, row, format="easyr1")


def test_a_row_of_two_formats_is_a_question_for_the_user(folder: Path) -> None:
    both = {"problem": "x?", "answer": "3", "solution": "As 1 + 2 = 3, x = 3.", "task": "math"}
    with pytest.raises(DataError, match=r"rows\.jsonl:1: may be in the format reference or easyr1; set format"):
        read(folder, [both])
    assert read(folder, [both], format="easyr1")[0].truth == "3"
    assert read(folder, [both | {"solution": "<answer>4</answer>"}])[0].truth == "4"
    either = {"messages": [said("user", "1 + 1?"), said("assistant", "2")]}
    with pytest.raises(DataError, match="swift or llamafactory"):
        read(folder, [either], task="math")
    assert read(folder, [either], task="math", format="swift") == read(
        folder, [either], task="math", format="llamafactory"
    )


# --- ms-swift -------------------------------------------------------------------------------------------------------


def test_swift(folder: Path) -> None:
    """The documented rows: GRPO with a solution, supervised, query and response, several images."""
    found = read(
        folder,
        [
            {"messages": [SYSTEM, said("user", "<image>How many?")], "images": ["a.png"], "solution": "4"},
            {"messages": [said("user", "1 + 1?"), said("assistant", "2")]},
            {
                "messages": [said("user", "<image><image>Which is larger?"), said("assistant", "the first")],
                "images": ["a.png", "b.png"],
            },
            {"query": "2 + 2?", "response": "<answer>4</answer>", "history": []},
        ],
        format="swift",
        task="math",
    )
    assert [(item.question, item.truth, len(item.images)) for item in found] == [
        ("How many?", "4", 1),
        ("1 + 1?", "2", 0),
        ("Which is larger?", "the first", 2),
        ("2 + 2?", "4", 0),
    ]


def grounding(**objects: Any) -> dict[str, Any]:
    return {
        "messages": [SYSTEM, said("user", "<image>Find the <ref-object> in the image"), said("assistant", "<bbox>")],
        "images": ["a.png"],
        "objects": {"ref": ["sheep"], "bbox": [[6, 4, 30, 20]], **objects},
    }


def test_swift_grounding(folder: Path) -> None:
    """Boxes come out in pixels of the image, whatever unit the row gives them in."""
    unit = grounding(bbox=[[0.1, 0.1, 0.5, 0.5]], bbox_type="norm1")
    found = read(folder, [grounding(), grounding(bbox_type="real", image_id=[0]), unit], task="detection")
    assert {item.question for item in found} == {"Find the sheep in the image"}
    for item in found:
        assert item.truth == pytest.approx((6.0, 4.0, 30.0, 20.0))
    several = grounding(bbox=[[6, 4, 30, 20], [30, 20, 60, 40]])
    several["messages"][-1] = said("assistant", "<bbox><bbox>")
    assert read(folder, [several], task="dense_detection")[0].truth == (
        (6.0, 4.0, 30.0, 20.0),
        (30.0, 20.0, 60.0, 40.0),
    )
    named = grounding()
    named |= {"solution": "<answer><bbox></answer>", "messages": named["messages"][:2]}
    assert read(folder, [named], task="detection")[0].truth == (6.0, 4.0, 30.0, 20.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"objects": {"ref": [], "bbox": [[1, 2, 3, 4]]}}, "1 <ref-object>, and objects.ref has 0 names"),
        ({"objects": {"ref": ["x"], "bbox": [[1, 2, 3, 4], [5, 6, 7, 8]]}}, "1 <bbox>, and objects.bbox has 2 boxes"),
        ({"objects": {"ref": ["x"], "bbox": [[615, 226]]}}, "four numbers"),
        ({"objects": {"ref": ["x"], "bbox": [[1, 2, 3, 4]], "bbox_type": "norm1000"}}, "'norm1000' is not known"),
        ({"objects": {"ref": ["x"], "bbox": [[1, 2, 3, 4]], "image_id": [1]}}, "another image"),
        ({"objects": {"ref": ["x"], "bbox": [[0, 0, 80, 40]]}}, "outside its image of 60x40"),
        ({"messages": [said("user", "What is at <bbox>?"), said("assistant", "x")]}, "the question holds <bbox>"),
        ({"solution": "a sheep at <bbox>"}, "mixes text and <bbox>"),
        ({"messages": [said("user", "a"), said("assistant", "b"), said("user", "c")]}, "user, assistant, user"),
        ({"messages": [{"from": "user", "value": "a"}]}, "message 1 needs role and content"),
        ({"messages": []}, "not empty"),
    ],
)
def test_swift_refused(folder: Path, change: dict[str, Any], reason: str) -> None:
    assert reason in refused(folder, grounding() | change, format="swift", task="detection")


def test_swift_truths_beside_the_question(folder: Path) -> None:
    """Rows for reward functions that read ``bbox`` or ``count``, and objects that nothing in the answer names."""
    rows = [
        {"query": "<image>Where is the sheep?", "images": ["a.png"], "bbox": [6, 4, 30, 20]},
        {"query": "Where is the sheep?", "image": "a.png", "bbox": [[6, 4, 30, 20]]},
        {"query": "Where are all?", "images": ["a.png"], "bbox": [[6, 4, 30, 20], [30, 20, 60, 40]]},
        {"query": "How many?", "images": ["a.png"], "count": 3},
        {"query": "None?", "images": ["a.png"], "count": 0},
        {"query": "How many?", "images": ["a.png"], "count": 3, "solution": "4", "task": "math"},
        {
            "messages": [said("user", "<image>Find the <ref-object>")],
            "images": ["a.png"],
            "objects": {"ref": ["sheep"], "bbox": [[0.1, 0.1, 0.5, 0.5]], "bbox_type": "norm1"},
        },
    ]
    found = read(folder, rows)
    box, other = (6.0, 4.0, 30.0, 20.0), (30.0, 20.0, 60.0, 40.0)
    assert [(item.task, item.truth) for item in found[:6]] == [
        ("detection", box),
        ("detection", box),
        ("dense_detection", (box, other)),
        ("math", "3"),
        ("math", "0"),
        ("math", "4"),
    ]
    assert (found[6].question, found[6].truth) == ("Find the sheep", pytest.approx(box))
    assert read(folder, [rows[0] | {"bbox": [0.1, 0.1, 0.5, 0.5]}], boxes="unit")[0].truth == pytest.approx(box)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"query": "x", "bbox": [1, 2, 3, 4], "count": 1}, "has bbox and count"),
        ({"query": "x", "bbox": []}, "truth of detection"),
        ({"query": "x", "bbox": [1, 2, 3]}, "truth of detection"),
        ({"query": "x", "bbox": [30, 4, 6, 20]}, "inverted"),
        ({"query": "x"}, "has no truth"),
        (
            {"messages": [said("user", "x")], "objects": {"ref": ["a", "b"], "bbox": [[1, 2, 3, 4]] * 2}},
            "boxes of 2 obj",
        ),
    ],
)
def test_swift_truths_that_are_none(folder: Path, row: dict[str, Any], reason: str) -> None:
    assert reason in refused(folder, row | {"images": ["a.png"]}, format="swift", task=None)


# --- LLaMA-Factory --------------------------------------------------------------------------------------------------

ALPACA = {"instruction": "How many?", "input": "Count the dots.", "output": "4", "images": ["a.png"], "history": []}
SHAREGPT = {
    "conversations": [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": "4"}],
    "system": "Be brief.",
    "images": ["a.png"],
}


def test_llamafactory_by_its_defaults(folder: Path) -> None:
    write_json(folder / "alpaca.json", [ALPACA, {"instruction": "1 + 1?", "output": "2"}], indent=2)
    first, second = items(folder, {"path": "alpaca.json", "task": "math"})
    assert (first.question, first.truth, len(first.images)) == ("How many?\nCount the dots.", "4", 1)
    assert (second.question, second.truth, len(second.images)) == ("1 + 1?", "2", 0)
    write_json(folder / "sharegpt.json", [SHAREGPT, SHAREGPT | {"images": None, "image": "b.png"}])
    first, second = items(folder, {"path": "sharegpt.json", "task": "math"})
    assert (first.question, first.truth, first.images[0].size) == ("How many?", "4", (60, 40))
    assert first.images[0].key != second.images[0].key


def test_llamafactory_by_its_dataset_info(folder: Path) -> None:
    """Columns and roles are called as the description beside the file says."""
    messages = [said("system", "x"), said("user", "<image><image>Same?"), said("assistant", "no")]
    write_json(folder / "mllm.json", [{"messages": messages, "pictures": ["a.png", "b.png"]}])
    write_json(folder / "own.json", [{"q": "2 + 2?", "a": "4"}])
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {
        "mllm": {
            "file_name": "mllm.json",
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "pictures"},
            "tags": tags,
        },
        "own": {"file_name": "own.json", "columns": {"prompt": "q", "response": "a"}},
        "elsewhere": {"hf_hub_url": "someone/elsewhere"},
    }
    write_json(folder / "dataset_info.json", described)
    [mllm] = items(folder, {"path": "mllm.json", "format": "llamafactory", "task": "math"})
    assert (mllm.question, mllm.truth, len(mllm.images)) == ("Same?", "no", 2)
    [own] = items(folder, {"path": "own.json", "format": "llamafactory", "task": "math"})
    assert (own.question, own.truth) == ("2 + 2?", "4")

    write_json(folder / "dataset_info.json", described | {"again": described["own"]})
    entry = {"path": "own.json", "format": "llamafactory", "task": "math"}
    with pytest.raises(DataError, match=r"own, again all describe own\.json"):
        items(folder, entry)
    assert items(folder, entry | {"options": {"dataset": "again"}})[0].truth == "4"
    with pytest.raises(DataError, match=r"no data set agin; did you mean again\?"):
        items(folder, entry | {"options": {"dataset": "agin"}})


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ({"formatting": "sharegtp"}, "did you mean sharegpt"),
        ({"ranking": True}, "preferences"),
        ({"columns": {"promt": "q"}}, "did you mean prompt"),
        ({"tags": {"user_tags": "q"}}, "did you mean user_tag"),
    ],
)
def test_llamafactory_descriptions_refused(folder: Path, description: dict[str, Any], reason: str) -> None:
    write_json(folder / "own.json", [ALPACA])
    write_json(folder / "dataset_info.json", {"own": {"file_name": "own.json", **description}})
    with pytest.raises(DataError, match=reason):
        items(folder, {"path": "own.json", "format": "llamafactory", "task": "math"})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (ALPACA | {"history": [["a", "b"]]}, "history"),
        ({"instruction": "x", "output": "1", "videos": ["x.mp4"]}, "has videos"),
        (SHAREGPT | {"conversations": SHAREGPT["conversations"] * 2}, "human, gpt, human, gpt"),
        (SHAREGPT | {"images": []}, "1 <image> placeholders, and the row has 0 images"),
        ({"output": "1"}, "no conversations"),
    ],
)
def test_llamafactory_refused(folder: Path, row: dict[str, Any], reason: str) -> None:
    assert reason in refused(folder, row, format="llamafactory")


def test_annotations_are_no_rows(folder: Path) -> None:
    write_json(folder / "instances.json", {"images": [], "annotations": []}, indent=1)
    with pytest.raises(
        DataError, match=r"instances\.json: is one JSON object and no list of rows; name its format: .*coco"
    ):
        items(folder, {"path": "instances.json"})
    write_json(folder / "instances.json", {"images": [], "annotations": []})
    with pytest.raises(DataError, match=r"keys found: annotations, images; name the format"):
        items(folder, {"path": "instances.json"})


def test_bad_rows_beside_good_ones_in_a_json_list(folder: Path) -> None:
    text = json.dumps([ALPACA, {"instruction": 3}, ALPACA], indent=1)
    (folder / "rows.json").write_text(text)
    line = text[: text.index('"instruction": 3')].count("\n")  # of the brace before
    with pytest.raises(DataError) as caught:
        items(folder, {"path": "rows.json", "task": "math"})
    assert caught.value.problems == ((f"rows.json:{line}", "has no instruction; keys found: instruction"),)
