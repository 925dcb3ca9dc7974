"""A recipe over image files that may be anything, and what ``curr-reft check`` says of it."""

import json
from pathlib import Path

import pytest

from curr_reft.cli import main


def write_rows(root: Path, paths: list[str]) -> Path:
    """A recipe that trains on these images, one a row, and tests on ``good.png``."""

    def row(path: str) -> str:
        return json.dumps({"problem": "what is 1+1?", "solution": "2", "task": "math", "image": path})

    (root / "train.jsonl").write_text("\n".join(map(row, paths)) + "\n")
    (root / "test.jsonl").write_text(row("good.png") + "\n")
    recipe = root / "recipe.yaml"
    recipe.write_text(
        "name: paths\n"
        "data:\n"
        "  kind: files\n"
        "  files: {train: [{path: train.jsonl}], test: [{path: test.jsonl}]}\n"
        "evaluation: {models: [base, curr_rl]}\n"
        "curriculum: {total_steps: 2, stages: [{name: open, forms: {open: 1}, steps: rest}]}\n"
    )
    return recipe


def refusal(recipe: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What ``curr-reft check`` says as it refuses."""
    assert main(["check", str(recipe)]) == 2
    return capsys.readouterr().err
