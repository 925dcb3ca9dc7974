"""Rewards and tasks of a user's own by the user's door: check, run, resume with changed code, grade."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from resealing import reseal_run

from curr_reft.cli import main
from curr_reft.parquet import read_rows
from curr_reft.tasks import TASKS
from curr_reft.tasks.user import use_tasks

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPE = """\
name: own
tasks: ["tasks.py:RoughCount"]
rewards:
  repetition: {weight: 0.1}
  custom:
    - {name: brief, call: "rewards.py:brief", weight: 0.5, options: {most: 3}}
    - {name: colours, call: "rewards.py:names_a_colour", weight: 0}
data:
  kind: files
  files: {train: [{path: train.jsonl}], validation: [{path: validation.jsonl}], test: [{path: test.jsonl}]}
sampling: {group_size: 2, max_new_tokens: 8}
rl: {prompts_per_step: 2, objective: {beta: 0}}
curriculum:
  total_steps: 3
  validation_items: 2
  skip_at_chance: false
  stages:
    - {name: binary, forms: {binary: 1}, steps: 1}
    - {name: choice, forms: {choice: 1}, steps: 1}
    - {name: open, forms: {open: 1}, steps: rest}
evaluation: {models: [base, curr_rl], profile: {items: 10, samples: 1}, gallery: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A recipe with its own code and rows; the questions are in words that the embedded model reads."""
    for name in ("tasks.py", "rewards.py"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    (tmp_path / "recipe.yaml").write_text(RECIPE + f"output: {tmp_path / 'run'}\n")
    for place, split in enumerate(("train", "validation", "test")):
        rows = []
        for number in range(6):
            Image.effect_noise((84, 84), 30 + 50 * place + 8 * number).convert("RGB").save(
                tmp_path / f"{split}{number}.png"
            )
            rows.append(
                {"problem": "how many red circle", "solution": str(10 + number), "task": "rough_count",
                 "image": f"{split}{number}.png"}
            )  # fmt: skip
        write(tmp_path / f"{split}.jsonl", rows)
    yield tmp_path
    use_tasks(())


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_recipe_with_its_own_code_goes_through_and_refuses_changed_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(folder / "recipe.yaml")
    assert main(["check", recipe]) == 0, capsys.readouterr().err
    assert "train: 6 binary" in capsys.readouterr().out
    assert main(["run", recipe]) == 0, capsys.readouterr().err
    run = folder / "run"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "train"]
    assert [row["form"] for row in steps] == ["binary", "choice", "open"]
    for row in steps:
        assert list(row["parts"]) == ["format", "accuracy", "repetition", "brief", "colours"]
        assert row["parts"]["brief"]["n"] == 4
        assert row["parts"]["colours"] == {"mean": None, "n": 0, "failed": 0}
    [rollouts] = (run / "stages" / "03-open" / "rollouts").iterdir()
    for row in read_rows(rollouts):
        own = 0.1 * row["parts"]["repetition"] + 0.5 * row["parts"]["brief"]
        assert row["reward"] == pytest.approx(row["format"] + row["accuracy"] + own)
    summary = json.loads((run / "summary.json").read_text())
    assert "rough_count" in summary["evaluation"]["curr_rl"]["in_domain"]
    assert "rough_count" in (run / "report.html").read_text()

    state = json.loads((run / "run.json").read_text())
    assert len(state["code_sha256"]) == 64
    state["state"] = "interrupted"
    del state["phases"]["report"]
    reseal_run(run, state)
    for name, old in (("rewards.py", "most / count"), ("tasks.py", "truth / 10")):
        replace(folder / name, old, old + " * 1")
        capsys.readouterr()
        assert main(["run", recipe, "--resume"]) == 2
        told = capsys.readouterr().err
        assert "the code that the recipe names changed since this run began" in told
        assert "put the old one back and --resume" in told
        replace(folder / name, old + " * 1", old)
    assert main(["run", recipe, "--resume"]) == 0


def test_the_tasks_of_one_recipe_are_unknown_to_the_next(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tuple(name for name in TASKS)
    assert main(["check", str(folder / "recipe.yaml")]) == 0
    capsys.readouterr()
    replace(folder / "recipe.yaml", 'tasks: ["tasks.py:RoughCount"]\n', "")
    assert main(["check", str(folder / "recipe.yaml")]) == 2
    told = capsys.readouterr().err
    assert "train.jsonl:1: task 'rough_count' is not known" in told
    assert "the recipe's key tasks names yours" in told
    assert tuple(TASKS) == before


def test_grade_knows_the_task_in_its_three_forms(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(answer: str) -> str:
        return f"<think>a</think><answer>{answer}</answer>"

    row = {"task": "rough_count", "form": "open", "truth": "50"}
    rows = [
        {**row, "completion": say("about 50")},
        {**row, "completion": say("53")},
        {**row, "completion": say("50 or 60")},
        {**row, "form": "binary", "truth": "no", "completion": say("No")},
        {**row, "form": "choice", "truth": "B", "options": ["20", "50"], "completion": say("B. 50")},
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(row) + "\n" for row in rows)))
    assert main(["grade", "--recipe", str(folder / "recipe.yaml")]) == 0
    told = capsys.readouterr()
    graded = [json.loads(line) for line in told.out.splitlines()]
    assert [row["accuracy"] for row in graded] == [1.0, 0.4, 0.0, 1.0, 1.0]
    assert graded[2]["status"] == "unparsable"
    assert graded[2]["reason"]
    assert "4 ok, 1 unparsable" in told.err
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(rows[0])))
    assert main(["grade"]) == 2, "without the recipe the task is not known"


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("tasks.py", "class RoughCount", "class Rough", "tasks.0 = FOLDER/tasks.py:RoughCount: FOLDER/tasks.py has no"),
        ("tasks.py", "import random", "import randon", "FOLDER/tasks.py:3: ModuleNotFoundError: No module named"),
        ("tasks.py", "def parse", "def pares", "RoughCount lacks parse; a task inherits from"),
        ("tasks.py", "return 1.0", "return 0.9", "train.jsonl:1: truth of rough_count: '10' earns 0.9 by score"),
        ("tasks.py", "return str(max(0", "return 1 / 0, str(max(0", "task rough_count: RoughCount.false_claim raised"),
        ("rewards.py", "def brief", "def short", "rewards.custom.0.call = FOLDER/rewards.py:brief: FOLDER/rewards.py"),
        ("rewards.py", "most: int = 40", "most: int, least: int", "its parameter least is given by no one"),
        ("recipe.yaml", "tasks.py:RoughCount", "no.py:RoughCount", "FOLDER/no.py cannot be read (No such file"),
        ("recipe.yaml", "rewards.py:brief", "rewards.py", "recipe.yaml:6: rewards.custom.0.call = \"rewards.py\""),
        ("recipe.yaml", "name: colours", "name: accuracy", "the name accuracy is taken"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_check_and_by_run_before_weights_are_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    name: str, old: str, new: str, told: str,
) -> None:  # fmt: skip
    def no_weights(*_: Any, **__: Any) -> Any:
        raise AssertionError("weights were read")

    monkeypatch.setattr("curr_reft.policy.load._load_weights", no_weights)
    replace(folder / name, old, new)
    messages = []
    for command in ("check", "run"):
        assert main([command, str(folder / "recipe.yaml")]) == 2
        messages.append(capsys.readouterr().err)
        assert not (folder / "run" / "run.json").exists()
    for message in messages:  # check lists all there is, a run the first kind
        assert told.replace("FOLDER", str(folder)) in message


BAD = [
    ("detection", "[5, 1]", "truth of detection: "),
    ("detection", "[30, 30, 10, 10]", "empty, inverted"),
    ("detection", "[0, 0, 900, 20]", "outside its image of 84x84"),
    ("classification", "", "the truth is empty"),
    ("math", "9^9^9^9", "tower of powers"),
    ("math", None, "has no truth (solution)"),
    ("rough_count", "many", "truth of rough_count: 'many' cannot be read by parse, so no answer could ever equal it"),
]


def test_check_lists_every_bad_truth_with_its_row_and_the_way_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truth that its own grader would not pay, in each task."""
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for number, (task, truth, _) in enumerate(BAD):
        rows.append({**rows[number % 6], "task": task, "solution": truth})
    write(folder / "train.jsonl", rows)
    assert main(["check", str(folder / "recipe.yaml")]) == 2
    told = capsys.readouterr().err
    for number, (_, _, reason) in enumerate(BAD):
        [line] = [line for line in told.splitlines() if f"train.jsonl:{7 + number}: " in line]
        assert reason in line
    assert "7 of 13 rows of train.jsonl are bad" in told
    assert "Do not skip these rows" in told


def test_a_grader_that_does_not_pay_its_truth_is_told_with_the_rule(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task pays the truth, but the form it asks for is not the one it writes."""
    with open(folder / "tasks.py", "a") as file:
        file.write("\n    def nothing(self): ...\n\nRoughCount.well_formed = lambda self, text: '.' in text\n")
    assert main(["check", str(folder / "recipe.yaml")]) == 2
    told = capsys.readouterr().err
    assert "train.jsonl:1: truth of rough_count: '10' must earn accuracy 1 and format 1 by its own grader" in told
    assert "earns accuracy 1.0, format 0.0 (ok); correct the row or leave it out" in told
