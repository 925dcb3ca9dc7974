"""What the README and recipes/ show works as shown."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from curr_reft.cli import COMMANDS
from curr_reft.data.config import DataConfig, FileEntry, FilesConfig
from curr_reft.data.load import load_data
from curr_reft.recipe import load_recipe
from curr_reft.tasks import TASKS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, language
    return found[1]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_recipe_loads(path: Path) -> None:
    assert load_recipe(path).curriculum.stages


def test_the_recipe_of_the_readme_loads(tmp_path: Path) -> None:
    (tmp_path / "pets.yaml").write_text(block("yaml"), encoding="utf-8")
    recipe = load_recipe(tmp_path / "pets.yaml", ["--rl.optimizer.lr", "2e-6"])
    assert recipe.rl.optimizer.lr == 2e-6
    assert [stage.name for stage in recipe.curriculum.stages] == ["binary", "choice", "open"]


def test_the_rows_of_the_readme_load(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in block("json").splitlines()]
    for row in rows:
        path = tmp_path / row["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (640, 480), "white").save(path)
    (tmp_path / "rows.jsonl").write_text(block("json"), encoding="utf-8")
    entry = FileEntry(path=str(tmp_path / "rows.jsonl"))
    config = DataConfig(kind="files", files=FilesConfig(train=(entry,), test=(entry,), validation_fraction=0.4))
    with pytest.raises(Exception, match="stands in train and in test"):  # the same file twice is refused
        load_data(config, lambda task, raw: TASKS[task].read_truth(raw))
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({**rows[0], "problem": "Find the cat."}) + "\n", encoding="utf-8")
    config = DataConfig(
        kind="files", files=FilesConfig(train=(entry,), test=(FileEntry(path=str(other)),), validation_fraction=0.4)
    )
    data = load_data(config, lambda task, raw: TASKS[task].read_truth(raw))
    truths = {item.task: item.truth for item in data.items if item.source.startswith("rows")}
    assert truths == {"detection": (12.0, 40.0, 118.0, 200.0), "classification": ("dog", "cat"), "math": "3"}


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"curr-reft ((?:data |base )?[a-z]+)", README))
    assert len(named) >= 7
    assert named <= {
        " ".join(command.words) if not isinstance(command.words, str) else command.words for command in COMMANDS
    }
