"""Bad input ends before any weights are read: exit code 2 and one message with place, value, rule and way out."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from PIL import Image

from curr_reft.cli import main

RECIPE = """\
name: own
data:
  kind: files
  check_images: decode
  files:
    train: [{path: train.jsonl}]
    validation: [{path: validation.jsonl}]
    test: [{path: test.jsonl}]
curriculum: {total_steps: 4, stages: [{name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base, curr_rl]}
output: OUTPUT
"""
WORDS = {"train": "red", "validation": "green", "test": "blue"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows that are right: counting questions that the embedded model can read, each on an image of its own."""
    for split, colour in WORDS.items():
        for number in range(4):
            image = Image.new("RGB", (84, 84), colour)
            image.putpixel((number, 0), (1, 2, 3))
            image.save(tmp_path / f"{split}-{number}.png")
        rows = [
            {"problem": f"how many {colour} circle", "solution": str(number + 1), "task": "math",
             "image": f"{split}-{number}.png"}
            for number in range(4)
        ]  # fmt: skip
        write(tmp_path / f"{split}.jsonl", rows)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("OUTPUT", str(tmp_path / "run")))
    return tmp_path


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def change(folder: Path, name: str, line: int, **keys: Any) -> None:
    rows = read(folder / name)
    rows[line - 1] |= keys
    write(folder / name, rows)


class Refused(str):
    """What ``run`` said, and what ``check`` said: a text stands in it when it stands in both."""

    def __new__(cls, run: str, check: str) -> "Refused":
        made = super().__new__(cls, run)
        made.check = check
        return made

    check: str

    def __contains__(self, text: object) -> bool:
        return str(text) in str(self) and str(text) in self.check


@pytest.fixture
def refuse(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The message with which both ``check`` and ``run`` refuse the input. Reading weights would fail the test."""

    def no_weights(*_: Any, **__: Any) -> Any:
        raise AssertionError("weights were read")

    monkeypatch.setattr("curr_reft.policy.load._load_weights", no_weights)

    def ask(*flags: str) -> str:
        messages = {}
        for command in ("check", "run"):
            assert main([command, str(folder / "recipe.yaml"), *flags]) == 2
            messages[command] = capsys.readouterr().err
            assert not (folder / "run" / "run.json").exists()  # a next try is not in a used directory
            assert messages[command].startswith("error: ")
        return Refused(messages["run"], messages["check"])

    return ask


def test_right_rows_pass_and_the_costs_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(folder / "recipe.yaml")]) == 0
    told = capsys.readouterr().out
    parts = ("model embedded", "M parameters", "train: ", "4 open", "open: 12 prompts, min ", "curriculum: 4 updates")
    for part in (*parts, "  memory of one process", "fits: ", "AdamW", "disk: ", "time: "):
        assert part in told
    assert not (folder / "run").exists()


def test_an_unknown_key_names_its_place_and_the_nearest(folder: Path, refuse: Any) -> None:
    with open(folder / "recipe.yaml", "a") as file:
        file.write("samplng: {}\n")
    text = refuse()
    assert f"{folder / 'recipe.yaml'}:12: samplng: unknown key; did you mean sampling?" in text


def test_a_missing_file_is_named(folder: Path, refuse: Any) -> None:
    (folder / "train.jsonl").unlink()
    assert "train.jsonl" in refuse()


def test_a_missing_and_an_unreadable_image_are_named_by_row(folder: Path, refuse: Any) -> None:
    (folder / "train-1.png").unlink()
    (folder / "train-3.png").write_bytes((folder / "train-2.png").read_bytes()[:60])
    text = refuse()
    assert "train.jsonl:2: " in text
    assert "train.jsonl:4: " in text
    assert "data.bad_rows: skip" in text


def test_a_truth_that_its_task_cannot_read_is_named_by_row(folder: Path, refuse: Any) -> None:
    change(folder, "test.jsonl", 3, solution="[5, 1]", task="detection")
    text = refuse()
    assert "test.jsonl:3: " in text
    assert "detection" in text


def test_a_truth_that_does_not_grade_is_named_by_row(folder: Path, refuse: Any, monkeypatch: Any) -> None:
    """A grader that does not accept the truth it was given would pay nobody."""
    from curr_reft.tasks import TASKS

    monkeypatch.setattr(TASKS["math"], "score", lambda *_, **__: 0.25, raising=True)
    text = refuse()
    assert "train.jsonl:1: truth of math: '1' must earn accuracy 1 and format 1" in text
    assert "earns accuracy 0.25" in text
    assert "correct the row or leave it out" in text


@pytest.mark.parametrize("truth", [["Label: dog"], ["a\nb"], ["Label: dog", "cat"]])
def test_a_truth_that_no_answer_from_the_prompt_equals_is_named_by_row(
    folder: Path, refuse: Any, truth: list[str]
) -> None:
    """The names as the row has them, separated by commas, are read as other names: nobody could be paid for them."""
    change(folder, "train.jsonl", 2, solution=truth, task="classification")
    text = refuse()
    assert "train.jsonl:2: truth of classification: " in text
    assert f"{', '.join(truth)!r} must earn accuracy 1 and format 1 by its own grader" in text
    assert "correct the row or leave it out" in text


def test_two_classes_that_are_compared_as_one_are_named_with_both_rows(folder: Path, refuse: Any) -> None:
    change(folder, "train.jsonl", 1, solution="crane (bird)", task="classification")
    change(folder, "train.jsonl", 3, solution="crane bird", task="classification")
    text = refuse()
    assert "train.jsonl:3: the class 'crane bird' and the class 'crane (bird)' (train.jsonl:1)" in text
    assert "are both compared as 'crane bird'" in text
    assert "crane (bird)" in refuse("--data.bad_rows", "skip"), "a class is not left out in silence"


@pytest.mark.parametrize(("key", "named"), [("problem", "the question"), ("solution", "the truth")])
def test_latex_that_json_has_eaten_is_named_with_the_remedy(folder: Path, refuse: Any, key: str, named: str) -> None:
    change(folder, "train.jsonl", 2, **{key: "\frac{1}{2}"})
    text = refuse()
    assert f"train.jsonl:2: {named} holds a form feed (U+000C) before 'rac{{1}}{{2}}'" in text
    assert "write \\\\frac in JSON" in text


def test_blood_groups_pass_as_classes_with_their_signs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = ("A+", "A-", "AB+", "O-")
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl"):
        rows = read(folder / name)
        for row, group in zip(rows, groups, strict=True):
            row |= {"solution": group, "task": "classification"}
        write(folder / name, rows)
    assert main(["check", str(folder / "recipe.yaml"), "--no-model"]) == 0
    assert "skipped 0" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["train", "validation"])
def test_a_picture_in_two_splits_is_a_leak(folder: Path, refuse: Any, where: str) -> None:
    (folder / "test-1.png").write_bytes((folder / f"{where}-2.png").read_bytes())
    text = refuse()
    assert "test.jsonl:2: " in text
    assert f"{where}.jsonl:3 (split {where})" in text
    assert "Remove them from one of the splits" in text


def test_a_picture_of_the_pool_in_a_test_is_a_leak(folder: Path, refuse: Any) -> None:
    """Kept answers to the pool are learned: it is a training split like the other."""
    write(folder / "pool.jsonl", [read(folder / "test.jsonl")[0]])
    assert "pool" in refuse("--data.files.pool", f"[{{path: {folder / 'pool.jsonl'}}}]")


def test_a_pool_that_is_too_small_is_refused_before_the_curriculum(refuse: Any) -> None:
    text = refuse("--self_improvement", "{pools: {math: {queries: 9, quota: 3}}, sft: {steps: 1}}")
    assert "self_improvement.pools.math: asks for 9 queries, but the data holds 4" in text


def test_a_form_without_questions_is_refused(folder: Path, refuse: Any) -> None:
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl"):
        write(folder / name, [row | {"solution": "1"} for row in read(folder / name)])
    text = refuse("--curriculum.stages", "[{name: choice, forms: {choice: 1}, steps: 4}]", "--questions.options", "8")
    assert "curriculum.stages.0.forms" in text or "train.jsonl" in text


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (None, "is neither a model folder nor a hub name that can be read: there is no such folder\n"),
        ("", "model.path: "),
        ("{}", "model.path: "),
    ],
    ids=["missing", "empty", "no weights"],
)
def test_a_folder_without_a_model_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], make: str | None, expected: str
) -> None:
    model = folder / "model"
    if make is not None:
        model.mkdir()
    if make:
        (model / "config.json").write_text(make)
    assert main(["run", str(folder / "recipe.yaml"), "--model.path", str(model)]) == 2
    text = capsys.readouterr().err
    assert expected in text
    assert str(model) in text
    assert not (folder / "run" / "run.json").exists()


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_adapter_without_its_library_is_refused_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "peft" else there(name))
    assert main([command, str(folder / "recipe.yaml"), "--model.lora", "{rank: 4}"]) == 2
    assert "model.lora: needs the peft library, which is not installed: pip install" in capsys.readouterr().err
    assert not (folder / "run" / "run.json").exists()


def test_a_family_that_is_not_known_is_said_by_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "config.json").write_text('{"model_type": "blip-2"}')
    assert main(["check", str(folder / "recipe.yaml"), "--model.path", str(folder)]) == 2
    assert "model: model family 'blip-2' is not supported; supported are" in capsys.readouterr().err


def test_the_frame_of_check_is_that_of_the_run(folder: Path) -> None:
    """Pixel bounds of the recipe move boxes and tokens; both are told before weights are read."""
    from curr_reft.policy.config import ModelConfig
    from curr_reft.policy.load import load_chat_processor, load_policy

    config = ModelConfig(min_pixels=784, max_pixels=784, box_frame="pixels")
    without, loaded = load_chat_processor(config), load_policy(config)
    assert without.frame == loaded.frame
    assert without.frame.fit((84, 84)) == (28, 28)
    assert without.max_length == loaded.processor.max_length


def test_check_says_nothing_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tiny_run.RECIPE)]) == 0
    printed = capsys.readouterr()
    assert "recipe tiny: model embedded" in printed.out
    assert "  stage open: open 100%; the rest of the updates, replay" in printed.out
    assert printed.err == ""


def test_check_shows_the_stages_a_schedule_makes_and_what_measuring_will_ask(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--curriculum.schedule", "mixed", "--difficulty.samples", "8"]
    assert main(["check", str(tiny_run.RECIPE), *flags]) == 0
    printed = capsys.readouterr().out
    assert "  stage mixed: binary 42%, choice 32%, open 26%; 8 updates, replay 0%" in printed
    assert f"  difficulty: at most {3 * 36 * 8:,} answers of the base before training" in printed


def test_check_says_how_many_completions_resampling_may_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tiny_run.RECIPE), "--rl.resample.rounds", "2"]) == 0
    printed = capsys.readouterr().out
    assert f"  curriculum: 8 updates, {8 * 3 * 4} completions" in printed
    assert f"  resampling: up to {8 * 3 * 4 * 2} completions more" in printed
