"""Question sets by the user's door: balanced, the same twice, readable by other tools, gradable as they are."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from item_rows import export_rows
from PIL import Image

from curr_reft.cli import main
from curr_reft.data.frame import BoxFrame
from curr_reft.data.item import Item
from curr_reft.data.shapes import shapes_items
from curr_reft.prepare import load_items
from curr_reft.question_sets import build_question_sets
from curr_reft.recipe import load_recipe
from curr_reft.rewards.command import grade_lines
from curr_reft.tasks import TASKS
from curr_reft.tasks.boxes import iou, read_box

FORMS = ("binary", "choice", "open")
TASKS_OF_THE_WORLD = ("detection", "classification", "math")
STAGE = {"name": "open", "forms": {"open": 1}, "steps": "rest"}


def recipe_file(folder: Path, data: dict[str, Any], **sections: Any) -> Path:
    content = {
        "name": "sets",
        "model": {"path": "embedded", "dtype": "float32"},
        "data": data,
        "curriculum": {"total_steps": 1, "stages": [STAGE]},
        "evaluation": {"models": ["base", "curr_rl"]},
        **sections,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


def drawn(train: int, other: int = 4) -> dict[str, Any]:
    counts = {"train": train, "validation": other, "test": other, "ood_test": other}
    shapes: dict[str, Any] = {split: dict.fromkeys(TASKS_OF_THE_WORLD, count) for split, count in counts.items()}
    return {"kind": "shapes", "shapes": shapes | {"pool": {"arithmetic": min(other, 100)}}}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def graded(rows: list[dict[str, Any]], answers: list[str]) -> list[dict[str, Any]]:
    out = io.StringIO()
    completions = [f"<think>I look.</think><answer>{answer}</answer>" for answer in answers]
    lines = (json.dumps(row | {"completion": text}) for row, text in zip(rows, completions, strict=True))
    grade_lines(lines, out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    assert main(["data", "build", str(recipe_file(folder, drawn(40))), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_every_split_and_form_is_a_file_and_every_form_has_every_item(built: Path) -> None:
    for split in ("train", "validation", "test", "ood_test", "pool"):
        origins = [{row["origin"] for row in read(built / "questions" / split / f"{form}.jsonl")} for form in FORMS]
        assert origins[0] == origins[1] == origins[2]
        assert len(origins[0]) == len(read(built / f"{split}.jsonl"))
    by_split = {
        split: {row["origin"] for form in FORMS for row in read(built / "questions" / split / f"{form}.jsonl")}
        for split in ("train", "validation", "test", "ood_test", "pool")
    }
    assert sum(map(len, by_split.values())) == len(set().union(*by_split.values())), "an origin stands in two splits"


def test_the_truth_of_every_row_earns_everything_and_the_others_nothing(built: Path) -> None:
    for form in FORMS:
        rows = read(built / "questions" / "train" / f"{form}.jsonl")
        assert all(row["accuracy"] == row["format"] == 1.0 for row in graded(rows, [row["truth"] for row in rows]))
        assert all(row["solution"] == f"<answer>{row['truth']}</answer>" for row in rows)
    binary = read(built / "questions" / "train" / "binary.jsonl")
    turned = ["no" if row["truth"] == "yes" else "yes" for row in binary]
    assert all(row["accuracy"] == 0.0 for row in graded(binary, turned))


def test_every_wrong_option_is_wrong_as_an_open_answer(built: Path) -> None:
    """The open set's grader, by its command, is the judge of the choice set's distractors."""
    truths = {row["origin"]: row for row in read(built / "questions" / "train" / "open.jsonl")}
    rows, answers, right = [], [], []
    for row in read(built / "questions" / "train" / "choice.jsonl"):
        for place, text in enumerate(row["options"]):
            rows.append(truths[row["origin"]])
            answers.append(text)
            right.append("ABCD"[place] in row["truth"])
    for row, is_right in zip(graded(rows, answers), right, strict=True):
        assert (row["accuracy"] > 0) is is_right, row


def test_rows_load_in_datasets(built: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for form in FORMS:
        files = {split: str(built / "questions" / split / f"{form}.jsonl") for split in ("train", "test")}
        loaded = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path))
        assert loaded["train"].num_rows == 120
        row = loaded["train"][0]
        assert row["form"] == form
        assert (built / row["images"][0]).is_file()


def test_a_second_build_is_the_same_byte_for_byte(built: Path, tmp_path: Path) -> None:
    assert main(["data", "build", str(recipe_file(tmp_path, drawn(40))), "--out", str(tmp_path / "again")]) == 0
    files = sorted(path.relative_to(built) for path in built.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.*"))
    for name in files:
        assert (built / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_the_card_says_what_the_files_hold(built: Path) -> None:
    card = json.loads((built / "card.json").read_text())
    page = (built / "card.md").read_text()
    for name, file in card["files"].items():
        assert len(read(built / name)) == file["rows"]
        assert name in page
    train = card["questions"]["splits"]["train"]
    rows = read(built / "questions" / "train" / "binary.jsonl")
    for task in TASKS_OF_THE_WORLD:
        said = [row["truth"] for row in rows if row["task"] == task]
        assert train["decisions"][task] == {"yes": said.count("yes"), "no": said.count("no")}
    assert card["questions"]["pictures"]["train"]["width"]["median"] == 84
    assert card["tokens"]["prompts"]["open"]["math"]["max"] >= 16
    assert set(card["questions"]["total"]["claims"]["math"]["choice"]) == {"near value"}
    assert "absent category of the same family" in page
    assert "(of the model embedded)" in page


def check_balance(card: dict[str, Any]) -> None:
    """Yes and no within 1 % for every split and task, letters within 2 %, no leak."""
    assert card["questions"]["leaks"] == 0
    for split in card["questions"]["splits"].values():
        assert max(split["balance"]["yes_off"].values()) <= 0.01
        assert max(split["balance"]["letters_off"].values()) <= 0.02


@pytest.mark.parametrize(
    ("count", "frame"), [(100, "pixels"), pytest.param(3000, None, marks=pytest.mark.slow)], ids=["sampled", "3 x 3000"]
)
def test_three_tasks_of_the_drawn_world_are_balanced_without_a_leak(
    count: int, frame: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole: 3 x 3,000 items each for train, validation and test."""
    words = ["data", "build", str(recipe_file(tmp_path, drawn(count, count))), "--out", str(tmp_path / "out")]
    assert main([*words, *(["--frame", frame] if frame else [])]) == 0
    assert f"{3 * count:,} rows" in capsys.readouterr().out
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["items"]["train"] == dict.fromkeys(TASKS_OF_THE_WORLD, count)
    check_balance(card)
    assert card["questions"]["total"]["skipped"] == {}


def file_recipe(folder: Path, items: list[Item], **sections: Any) -> Path:
    files = export_rows(items, folder)
    entries = {split: [{"path": path.name}] for split, path in files.items()}
    return recipe_file(folder, {"kind": "files", "files": entries | sections.pop("files", {})}, **sections)


def world_files(folder: Path, **sections: Any) -> Path:
    splits = ("train", "validation", "test")
    items = [item for split in splits for item in shapes_items(5, split, dict.fromkeys(TASKS_OF_THE_WORLD, 8))]
    return file_recipe(folder, items, **sections)


def test_files_are_referred_to_or_copied(tmp_path: Path) -> None:
    recipe = world_files(tmp_path)
    for flag, root in ((None, ".."), ("--copy-images", ".")):
        out = tmp_path / f"out{flag}"
        words = ["data", "build", str(recipe), "--out", str(out), "--token-sample", "0", *([flag] if flag else [])]
        assert main(words) == 0
        card = json.loads((out / "card.json").read_text())
        assert card["image_root"] == root
        for row in read(out / "questions" / "test" / "open.jsonl"):
            assert all((out / root / image).is_file() for image in row["images"])
        assert any((out / "images").iterdir()) is (flag is not None)
        # What was written is data again: the rows of the items, with their images under the root of the card.
        again = recipe_file(
            out,
            {
                "kind": "files",
                "files": {
                    split: [{"path": f"{split}.jsonl", "image_root": root}] for split in ("train", "validation", "test")
                },
            },
        )
        assert [item.truth for item in load_items(load_recipe(again)).items] == [
            item.truth for item in load_items(load_recipe(recipe)).items
        ]


def test_a_recompressed_training_picture_in_the_test_stops_the_build_and_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = world_files(tmp_path)
    first = read(tmp_path / "train.jsonl")[3]["image"]
    Image.open(tmp_path / first).save(tmp_path / "images" / "copy.jpg", quality=70)
    rows = read(tmp_path / "test.jsonl")
    rows[5]["image"] = "images/copy.jpg"
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    assert main(["data", "build", str(recipe), "--out", str(out), "--frame", "pixels"]) == 2
    told = capsys.readouterr().err
    assert "test.jsonl:6: its image is also, in other bytes, in train.jsonl:4 (split train)" in told
    (pair,) = read(out / "leaks.jsonl")
    assert (pair["first"], pair["second"]) == ("train.jsonl:4", "test.jsonl:6")
    assert [path.name for path in out.iterdir()] == ["leaks.jsonl"]
    rows[5]["image"] = read(tmp_path / "test.jsonl")[6]["image"]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["data", "build", str(recipe), "--out", str(out), "--frame", "pixels"]) == 0
    assert not (out / "leaks.jsonl").exists()


def test_boxes_are_in_the_frame_that_is_asked_for(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path, drawn(6)))
    boxes = {}
    for frame in ("pixels", "thousand"):
        card = build_question_sets(recipe, tmp_path / frame, frame=frame)  # type: ignore[arg-type]
        assert card["model"] is None
        assert "not_counted" in card["tokens"]
        rows = read(tmp_path / frame / "questions" / "train" / "open.jsonl")
        boxes[frame] = [read_box(row["truth"]) for row in rows if row["task"] == "detection"]
    for pixels, thousand in zip(boxes["pixels"], boxes["thousand"], strict=True):
        assert pixels is not None
        assert thousand is not None
        assert iou(BoxFrame("thousand").to_model(pixels, (84, 84)), thousand) > 0.97


def test_a_claimed_box_is_drawn_where_it_is_claimed(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, drawn(10), questions={"draw_boxes": True})
    assert main(["data", "build", str(recipe), "--out", str(tmp_path / "out")]) == 0
    plain = {row["origin"]: row for row in read(tmp_path / "out" / "questions" / "train" / "open.jsonl")}
    drawn_rows = read(tmp_path / "out" / "questions" / "train" / "binary.jsonl")
    checked = 0
    for row in drawn_rows:
        if row["task"] != "detection":
            assert row["images"] == plain[row["origin"]]["images"]
            continue
        assert "claim: the red box" in row["prompt"]
        assert "[" not in row["prompt"]
        marked = np.asarray(Image.open(tmp_path / "out" / row["images"][0])).astype(int)
        before = np.asarray(Image.open(tmp_path / "out" / plain[row["origin"]]["images"][0])).astype(int)
        y, x = np.nonzero((marked != before).any(axis=2))
        assert (marked[y, x] == (255, 0, 0)).all()
        found = (x.min(), y.min(), x.max() + 1, y.max() + 1)
        truth = read_box(plain[row["origin"]]["truth"])
        assert truth is not None
        assert (found == tuple(map(int, truth))) is (row["truth"] == "yes")
        checked += 1
    assert checked == 10


def test_drawing_on_files_needs_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = world_files(tmp_path, questions={"draw_boxes": True})
    assert main(["data", "build", str(recipe), "--out", str(tmp_path / "out")]) == 2
    assert "--copy-images" in capsys.readouterr().err


def test_a_build_that_is_killed_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    recipe = recipe_file(tmp_path, drawn(2000))
    words = ["data", "build", str(recipe), "--out", str(tmp_path / "out"), "--frame", "pixels"]
    build = subprocess.Popen([sys.executable, "-m", "curr_reft.cli", *words])
    while build.poll() is None and not list(tmp_path.glob(".out.*.tmp/train.jsonl")):
        time.sleep(0.02)
    build.kill()
    build.wait()
    assert not (tmp_path / "out").exists()


def test_false_claims_respect_the_recipe_s_own_scoring(tmp_path: Path) -> None:
    """At an IoU threshold of 0.1 a box of IoU 0.2 is paid, so it is no false claim."""
    rewards = {"detection": {"threshold": 0.1}}
    recipe = load_recipe(recipe_file(tmp_path, drawn(60), rewards=rewards))
    build_question_sets(recipe, tmp_path / "out", frame="pixels")
    truths = {row["origin"]: row["truth"] for row in read(tmp_path / "out" / "questions" / "train" / "open.jsonl")}
    detection = TASKS["detection"]
    for row in read(tmp_path / "out" / "questions" / "train" / "choice.jsonl"):
        if row["task"] == "detection":
            for place, text in enumerate(row["options"]):
                truth = detection.read_truth(truths[row["origin"]])
                paid = detection.score(detection.parse(text), truth, recipe.rewards.task_options())
                assert (paid == 1.0) is ("ABCD"[place] == row["truth"])


def test_families_of_the_recipe_come_first(tmp_path: Path) -> None:
    items = [
        Item(
            id=f"{split}{number}",
            task="classification",
            question=f"what is there {split} {number}",
            truth=("dog",) if number % 2 else ("bus",),
            split=split,
        )
        for split in ("train", "validation", "test")
        for number in range(8)
    ]
    extra = [
        Item(id=f"e{n}", task="classification", question=f"else {n}", truth=(name,))
        for n, name in enumerate(("cat", "car", "spoon", "fork", "tree"))
    ]
    questions = {"families": {"animal": ["dog", "Cat"], "vehicle": ["bus", "car"]}}
    recipe = load_recipe(file_recipe(tmp_path, [*items, *extra], questions=questions))
    card = build_question_sets(recipe, tmp_path / "out", frame="pixels")
    relatives = {"dog": "cat", "bus": "car"}
    checked = 0
    for row in read(tmp_path / "out" / "questions" / "train" / "choice.jsonl"):
        right = row["options"]["ABCD".index(row["truth"])]
        if right in relatives:
            assert relatives[right] in row["options"]
            checked += 1
    assert checked == 8
    assert card["questions"]["total"]["claims"]["classification"]["choice"]["absent category of the same family"] >= 8
