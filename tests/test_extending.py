"""docs/extending.md is true: its files are written, its commands typed, its Python run; the examples too."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curr_reft.cli import main
from curr_reft.recipe import load_recipe
from curr_reft.rewards.signature import COLUMNS, GIVEN, OUTCOME
from curr_reft.tasks.user import use_tasks

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
FILES = {
    found[1]: text for kind, text in BLOCKS if kind in ("python", "yaml") and (found := re.match(r"# (\S+)\n", text))
}
COMMANDS = [line[2:] for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
SMALL = "{train: {math: 8}, validation: {math: 4}, test: {math: 4}, ood_test: {math: 4}, pool: {math: 4}}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of the page, as a user would have it."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    use_tasks(())


def test_the_page_has_what_these_tests_look_for() -> None:
    assert list(FILES) == ["rewards.py", "pets.yaml", "tasks.py", "scales.yaml"]
    assert COMMANDS == [
        "curr-reft grade --recipe pets.yaml < rows.jsonl",
        "curr-reft check pets.yaml",
        "curr-reft data build scales.yaml --frame pixels --out compiled",
    ]


def test_grade_with_the_rewards_of_the_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "<think>one, then 1, 2 and 3, so three</think><answer>3</answer>"
    rows = [
        {"task": "math", "form": "open", "truth": "3", "completion": long},
        {"task": "math", "form": "open", "truth": "3", "completion": long.replace(">3<", ">4<")},
        {"task": "detection", "form": "binary", "truth": "yes", "completion": "yes " * 60},
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(json.dumps(row) + "\n" for row in rows)))
    assert main(["grade", "--recipe", "pets.yaml"]) == 0
    told = capsys.readouterr()
    graded = [json.loads(line) for line in told.out.splitlines()]
    assert [row["parts"]["fingers"] for row in graded] == [1.0, 0.0, None]
    assert [row["parts"]["brief"] for row in graded] == [1.0, 1.0, 0.5]
    assert [row["parts"]["length"] for row in graded] == [0.0, 0.0, 0.0]
    assert [row["reward"] for row in graded] == pytest.approx([1 + 1 + 0.1 + 0.2, 1 + 0.1, 0.05])
    assert told.err == (
        "graded 3 rows: 2 ok, 1 no_answer\n"
        "means: reward 1.150; format 0.667, accuracy 0.333, length 0.000, brief 0.833, fingers 0.500 (of 2)\n"
    )


def test_check_loads_the_rewards_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "pets.yaml", "--data.shapes", SMALL]) == 0
    assert "recipe pets: model embedded" in capsys.readouterr().out
    (folder / "rewards.py").write_text(FILES["rewards.py"].replace("def brief(", "def breif("))
    assert main(["check", "pets.yaml", "--data.shapes", SMALL]) == 2
    told = capsys.readouterr().err
    assert f"rewards.custom.0.call = {folder / 'rewards.py'}:brief" in told
    assert "did you mean breif?" in told


def test_data_build_with_the_task_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [row] = [json.loads(text) for kind, text in BLOCKS if kind == "json"]
    write_rows(folder, row, lambda number: f"{12.5 + 2 * number} kg")
    assert main(["data", "build", "scales.yaml", "--frame", "pixels", "--out", "compiled"]) == 0, (
        capsys.readouterr().err
    )
    card = json.loads((folder / "compiled" / "card.json").read_text())
    assert card["questions"]["splits"]["train"]["questions"]["weight"] == {"binary": 6, "choice": 6, "open": 6}
    assert card["questions"]["splits"]["train"]["decisions"]["weight"] == {"no": 3, "yes": 3}
    change = json.loads((folder / "test.jsonl").read_text().splitlines()[2]) | {"solution": "heavy"}
    lines = (folder / "test.jsonl").read_text().splitlines()
    (folder / "test.jsonl").write_text("\n".join([*lines[:2], json.dumps(change), *lines[3:]]))
    assert main(["data", "build", "scales.yaml", "--frame", "pixels", "--out", "again"]) == 2
    assert "test.jsonl:3: truth of weight: 'heavy' cannot be read by parse" in capsys.readouterr().err


def write_rows(folder: Path, row: dict[str, Any], truth: Any, rows: int = 6) -> None:
    """Rows of three splits like ``row``, each with a truth and an image of its own."""
    for place, split in enumerate(("train", "validation", "test")):
        lines = []
        for number in range(rows):
            image = Image.effect_noise((84, 84), 40 + 60 * place + 9 * number).convert("RGB")
            name = f"images/{split}-{number}.png"
            (folder / "images").mkdir(exist_ok=True)
            image.save(folder / name)
            lines.append(json.dumps({**row, "image": name, "solution": truth(number)}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "text", [text for kind, text in BLOCKS if kind == "python" and not text.startswith("# ")], ids=["trl", "factory"]
)
def test_the_python_of_the_page_runs(text: str) -> None:
    exec(compile(text, "docs/extending.md", "exec"), {})


def test_the_page_names_every_argument() -> None:
    table = PAGE.split("| argument |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)", table))
    assert set(GIVEN) <= named
    assert {*COLUMNS, *OUTCOME} <= named


def test_the_recipes_of_the_page_are_recipes() -> None:
    assert load_recipe("pets.yaml").rewards.weights() == {
        "format": 1.0, "accuracy": 1.0, "length": 0.2, "brief": 0.1, "fingers": 0.2,
    }  # fmt: skip
    assert load_recipe("scales.yaml").tasks == (str(Path.cwd() / "tasks.py") + ":Weight",)
