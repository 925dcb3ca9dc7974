"""``kept.jsonl`` in the hands of the trainers it is meant for: their own code reads it, as the documentation says.

TRL is installed with the tests. ms-swift and LLaMA-Factory pin other versions of transformers, so each is asked in an
environment of its own: ``SWIFT_PYTHON`` and ``LLAMAFACTORY_PYTHON`` name their interpreters (``make test-slow``).
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from judged_rows import candidate, verdict
from PIL import Image

from curr_reft.data.frame import BoxFrame
from curr_reft.data.shapes import shapes_items
from curr_reft.files import read_jsonl
from curr_reft.improve.kept import KEPT, write_kept
from curr_reft.improve.select import Kept
from curr_reft.policy.config import EMBEDDED, ModelConfig
from curr_reft.policy.load import load_policy, model_folder
from curr_reft.policy.policy import Policy
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question

DOC = Path(__file__).parents[2] / "docs" / "self-improvement.md"
FRAME = BoxFrame("thousand")
IGNORED = -100  # the label of a token that no loss is computed for


def answered(question: Question) -> Kept:
    right = candidate(question, f"<think> so </think> <answer> {FORMS['open'].write(question)} </answer>")
    return Kept(candidate=right, verdict=verdict(right, 90))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows with a picture of each task, and two without; in ``DIR``."""
    items = shapes_items(0, "pool", {"detection": 1, "classification": 1, "math": 1, "arithmetic": 2})
    questions, _ = compile_questions(items, ["open"], seed=0, frame=FRAME)
    made = tmp_path / "DIR"
    made.mkdir()
    write_kept(made, [answered(each) for each in questions["open"]], FRAME)
    return made


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return list(image.size), image.convert("RGB").tobytes()


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(ModelConfig(path=EMBEDDED, dtype="float32", device="cpu"))


def said(policy: Policy, tokens_T: torch.Tensor) -> str:
    return str(policy.processor.processor.tokenizer.decode(tokens_T))


def test_trl_learns_the_answers(folder: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the lines of the documentation: every row is seen, with its picture, and nothing but its answer is learned."""
    if not DOC.exists():
        pytest.skip("not a checkout")
    monkeypatch.chdir(folder.parent)
    torch.set_num_threads(1)
    (snippet,) = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
    names = {"model": policy.core, "processor": policy.processor.processor}
    before = {name: each.detach().clone() for name, each in policy.core.named_parameters()}
    exec(snippet, names)
    assert names["trainer"].state.global_step == 1
    assert any(not torch.equal(each, before[name]) for name, each in policy.core.named_parameters())

    rows = read_jsonl(folder / KEPT)
    seen = [names["rows"][place] for place in range(len(names["rows"]))]
    for given, row in zip(seen, rows, strict=True):
        assert [(list(each.size), each.convert("RGB").tobytes()) for each in given["images"]] == [
            pixels(folder / name) for name in row["images"]
        ]
    batch = names["trainer"].data_collator(seen)
    for place, row in enumerate(rows):
        question, answer = (message["content"] for message in row["messages"])
        tokens_T = batch["input_ids"][place]
        learned = said(policy, tokens_T[batch["labels"][place] != IGNORED])
        ours = policy.processor.processor.tokenizer
        assert learned == ours.decode(ours(f"{answer}<|im_end|>\n").input_ids)
        asked = ours.decode(ours(question.removeprefix("<image>")).input_ids)
        assert asked in said(policy, tokens_T)
        assert bool(row["images"]) == ("<|image_pad|>" in said(policy, tokens_T))
    assert len(batch["image_grid_thw"]) == sum(len(row["images"]) for row in rows) == 3


def read_by(package: str, folder: Path) -> list[dict[str, Any]]:
    """What the code of that trainer makes of the rows; see ``read_by_*.py``."""
    variable = f"{package.upper()}_PYTHON"
    if not (python := os.environ.get(variable)):
        pytest.skip(f"{variable} names no interpreter that has {package}")
    program = Path(__file__).with_name(f"read_by_{package}.py")
    command = [python, str(program), str(folder), model_folder(EMBEDDED)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("package", ["swift", "llamafactory"])
def test_another_trainer_reads_every_row(package: str, folder: Path, policy: Policy) -> None:
    tokenizer = policy.processor.processor.tokenizer
    rows = read_jsonl(folder / KEPT)
    for given, row in zip(read_by(package, folder), rows, strict=True):
        assert given["messages"] == row["messages"]
        assert [(size, bytes.fromhex(levels)) for size, levels in given["pictures"]] == [
            pixels(folder / name) for name in row["images"]
        ]
        if package == "llamafactory":  # which also makes tokens of them without more of the model than its tokenizer
            assert bool(given["placeholders"]) == bool(row["images"])
            answer = row["messages"][1]["content"]
            assert given["learned"] == tokenizer.decode(tokenizer(f"{answer}<|im_end|>\n").input_ids)
