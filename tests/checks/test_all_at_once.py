"""``curr-reft check`` lists every kind of problem in one go, by row, and says the numbers as JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from spelling_model import build_spelling_model

from curr_reft.checks import histogram
from curr_reft.cli import main
from curr_reft.data.images import StoredImage
from curr_reft.policy.counting import Count

RECIPE = """\
name: own
model: {path: MODEL}
data:
  kind: files
  files:
    train: [{path: train.jsonl}]
    validation: [{path: validation.jsonl}]
    test: [{path: test.jsonl}]
curriculum: {total_steps: 4, stages: [{name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base, curr_rl]}
output: OUTPUT
"""
LONGEST = 400  # tokens that the model takes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_spelling_model(tmp_path_factory.mktemp("model"), longest=LONGEST)


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    """Five rows a split that are right, each on a picture of its own."""
    for place, split in enumerate(("train", "validation", "test")):
        rows = []
        for number in range(5):
            name = f"{split}-{number}.png"
            blocks = Image.new("RGB", (6, 6))
            blocks.putdata([((place * 83 + number * 31 + each * 7) % 256, each * 7, number * 40) for each in range(36)])
            blocks.resize((120, 90), Image.Resampling.NEAREST).save(tmp_path / name)
            rows.append({"problem": f"How many, {split} {number}?", "solution": str(number + 2), "task": "math"})
            rows[-1]["image"] = name
        write(tmp_path / f"{split}.jsonl", rows)
    text = RECIPE.replace("MODEL", str(model)).replace("OUTPUT", str(tmp_path / "run"))
    (tmp_path / "recipe.yaml").write_text(text)
    return tmp_path


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def change(path: Path, line: int, **keys: Any) -> None:
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    rows[line - 1] |= keys
    write(path, rows)


@pytest.fixture
def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """(exit code, what was printed, the message)."""

    def carry_out(*flags: str | Path) -> tuple[int, str, str]:
        code = main(["check", str(folder / "recipe.yaml"), *map(str, flags)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return carry_out


def spoil(folder: Path) -> None:
    """One row of every kind of problem."""
    (folder / "train-0.png").write_bytes(b"no picture at all")
    change(folder / "train.jsonl", 2, task="detection", solution="[10, 10, 900, 80]")
    change(folder / "train.jsonl", 3, problem="How many? " + "Look closely. " * 150)
    (folder / "test-1.png").write_bytes((folder / "train-3.png").read_bytes())
    change(folder / "test.jsonl", 3, image="missing.png")
    change(folder / "test.jsonl", 5, problem="How long? " + "Look twice. " * 300)


def test_every_kind_of_problem_is_listed_by_row(folder: Path, check: Callable[..., tuple[int, str, str]]) -> None:
    spoil(folder)
    code, _, text = check("--json", folder / "numbers.json")
    assert code == 2
    assert text.splitlines()[0] == "error: 6 problems"
    said = {line.partition(": ")[0]: line for line in text.splitlines()[1:]}
    assert "is not an image of a known format" in said["train.jsonl:1"]
    assert "lies outside its image of 120x90 pixels" in said["train.jsonl:2"]
    assert f"tokens and the model takes {LONGEST}" in said["train.jsonl:3"]
    assert "its image is also in train.jsonl:4 (split train)" in said["test.jsonl:2"]
    assert "does not exist" in said["test.jsonl:3"]
    assert f"tokens and the model takes {LONGEST}" in said["test.jsonl:5"]
    assert "data.bad_rows: skip" in text
    assert "Remove them from one of the splits" in text
    numbers = json.loads((folder / "numbers.json").read_text())
    assert [each["kind"] for each in numbers["problems"]] == ["rows", "rows", "rows", "leaks", "tokens", "tokens"]
    assert numbers["tokens"]["limit"] == LONGEST


def test_every_over_long_row_is_named_however_many(folder: Path, check: Callable[..., tuple[int, str, str]]) -> None:
    """Not the first ones and not a sample: the run is refused too, before weights are read."""
    rows = [json.loads(text) for text in (folder / "train.jsonl").read_text().splitlines()]
    long = [{**rows[0], "problem": f"Number {n}? " + "Look closely. " * 150, "image": None} for n in range(30)]
    write(folder / "train.jsonl", [*rows, *long])
    _, _, text = check()
    assert [f"train.jsonl:{line}: asked as" in text for line in range(1, 36)] == [False] * 5 + [True] * 30
    assert main(["run", str(folder / "recipe.yaml")]) == 2
    assert not (folder / "run" / "run.json").exists()


def test_files_that_are_not_there_do_not_hide_what_is_in_others(
    folder: Path, check: Callable[..., tuple[int, str, str]]
) -> None:
    (folder / "validation.jsonl").unlink()
    spoil(folder)
    code, _, text = check()
    assert code == 2
    assert "validation.jsonl: cannot be read" in text
    assert "train.jsonl:2: box" in text
    assert "test.jsonl:5: asked as" in text


def test_a_missing_model_is_a_problem_beside_the_others_unless_it_is_left_out(
    folder: Path, check: Callable[..., tuple[int, str, str]]
) -> None:
    spoil(folder)
    code, _, text = check("--model.path", folder / "models" / "none")
    assert code == 2
    assert "model.path: " in text
    assert "train.jsonl:2: box" in text
    assert "--no-model" in text
    code, printed, text = check("--model.path", folder / "models" / "none", "--no-model")
    assert code == 2
    assert "model.path" not in text
    assert "not checked: tokens of prompts, time, memory and disk" in printed


def test_without_a_model_good_rows_pass(check: Callable[..., tuple[int, str, str]]) -> None:
    code, printed, _ = check("--model.path", "/none/none/none", "--no-model")
    assert code == 0
    assert "train: 5 binary, 5 choice, 5 open" in printed


def test_no_picture_is_decoded_twice(
    check: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    plain = StoredImage.open

    def counting(image: StoredImage) -> Image.Image:
        opened.append(image.place)
        return plain(image)

    monkeypatch.setattr(StoredImage, "open", counting)
    assert check()[0] == 0
    assert len(opened) == 15
    assert len(set(opened)) == 15


def test_numbers_are_written_as_json(folder: Path, check: Callable[..., tuple[int, str, str]]) -> None:
    code, _, _ = check("--json", folder / "numbers.json", "--gpu-memory", "1GB")
    numbers = json.loads((folder / "numbers.json").read_text())
    assert code == 0
    assert numbers["problems"] == []
    assert numbers["steps"]["updates"] == 4
    assert numbers["memory"]["peak"] > numbers["memory"]["held"] > numbers["memory"]["weights"]
    assert numbers["memory"]["verdict"].startswith("may just fit: ") or "fit" in numbers["memory"]["verdict"]
    assert numbers["disk"]["needed"] == numbers["disk"]["checkpoints"] + numbers["disk"]["models"]
    assert sum(numbers["tokens"]["forms"]["open"]["histogram"]) == 15


def test_what_cannot_fit_is_refused_with_the_way_out(check: Callable[..., tuple[int, str, str]]) -> None:
    code, _, text = check("--gpu-memory", "500MB")
    assert code == 2
    assert "model: does not fit: weights, optimizer and gradients alone are " in text
    assert "set model.lora: {}" in text


def test_a_test_is_split_off_where_there_is_none(folder: Path, check: Callable[..., tuple[int, str, str]]) -> None:
    recipe = (folder / "recipe.yaml").read_text()
    rows = [path.read_text() for path in (folder / "train.jsonl", folder / "validation.jsonl", folder / "test.jsonl")]
    (folder / "train.jsonl").write_text("".join(rows))
    (folder / "recipe.yaml").write_text(
        "".join(line for line in recipe.splitlines(keepends=True) if "validation:" not in line and "test:" not in line)
    )
    code, printed, _ = check("--data.files.test_fraction", "0.2")
    assert code == 0
    assert "  test: 3 binary" in printed
    assert "  validation: 1 binary" in printed
    assert "  train: 11 binary" in printed
    code, _, text = check()
    assert code == 2
    assert "files.test_fraction" in text


def test_bars_are_of_equal_round_width_and_count_every_prompt() -> None:
    counts = [Count(tokens=tokens, image_tokens=0) for tokens in (7, 20, 21, 95, 95, 95, 160)]
    edges = histogram.edges_of(counts)
    assert edges == [0, 20, 40, 60, 80, 100, 120, 140, 160, 180]
    assert histogram.histogram(counts, edges) == [1, 2, 0, 0, 3, 0, 0, 0, 1]
    page = list(histogram.lines({"open": counts}, limit=100))
    assert page[1] == "    open: 7 prompts, min 7, median 95, p95 160, max 160, 1 over the limit"
    assert page[2].split() == ["0", "to", "19", "#" * 13, "1"]
    assert histogram.edges_of([Count(tokens=5, image_tokens=0)]) == [5, 6]
