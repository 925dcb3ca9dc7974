"""docs/tutorial.md is true: its commands are typed in their order, its Python is run, the rest says that it is not."""

import json
import re
import shutil
from pathlib import Path

import pytest

from curr_reft.cli import COMMANDS

from as_typed import in_shell, quickly  # isort: skip
from chat_server import chat_server  # isort: skip

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
TYPED = [
    command
    for kind, text in BLOCKS
    if kind == "console"
    for command in re.findall(r"^\$ (.*)$", text.replace("\\\n ", ""), re.MULTILINE)
]
SERVED = next(text for kind, text in BLOCKS if kind == "bash" and "--server" in text).splitlines()[-1]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, as far as the page needs it, where its commands were carried out but for those of two processes."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("pictures", "__pycache__"))
    said = {command: quickly(command, folder) for command in TYPED if not command.startswith("accelerate")}
    (folder / "said.json").write_text(json.dumps(said))
    return folder


def said(root: Path, beginning: str) -> str:
    [text] = [text for command, text in json.loads((root / "said.json").read_text()).items() if beginning in command]
    return str(text)


def test_the_table_is_the_one_that_is_drawn(root: Path) -> None:
    [shown] = [text for kind, text in BLOCKS if kind == "csv"]
    assert (root / "photos" / "labels.csv").read_text(encoding="utf-8").startswith(shown)


def test_the_run_is_the_one_that_is_told(root: Path) -> None:
    assert "curriculum: 60 updates, 3,840 completions" in said(root, "check")  # as under the costs
    summary = json.loads((root / "runs" / "things" / "summary.json").read_text())
    assert {stage["form"]: stage["steps"] for stage in summary["stages"]} == {"binary": 2, "choice": 2, "open": 2}
    assert summary["evaluation"]["curr_rl"]["in_domain"]["classification"]["n"] == 6
    assert "validation: 5 binary, 5 choice, 5 open" in said(root, "check")
    assert (root / "questions.html").is_file()
    page = (root / "runs" / "things" / "report.html").read_text(encoding="utf-8")
    for heading in ("Results", "What this run does not show", "Answers, side by side", "Training", "Hand-over"):
        assert heading in page, heading
        assert heading in PAGE, heading


def test_the_python_shows_what_was_sampled(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = [text for kind, text in BLOCKS if kind == "python"]
    monkeypatch.chdir(root)
    exec(compile(code, "docs/tutorial.md", "exec"), {})
    shown = capsys.readouterr().out
    assert shown.count("->") == 9  # three of each stage
    assert "list the objects. claim: " in shown


def test_the_model_answers_here_and_behind_a_server(root: Path) -> None:
    assert "<answer>" in said(root, "ask.py")
    with chat_server("<think> i see </think> <answer> red square, blue circle </answer>") as (url, asked):
        command = SERVED.replace("http://localhost:8000/v1", url)
        assert command != SERVED
        assert "answer: ('red square', 'blue circle')" in quickly(command, root)
    assert asked[0]["model"] == "things-model"
    assert asked[0]["messages"][0]["content"][1]["text"].startswith("list the objects\nFirst reason step by step")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_as_it_is_typed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("pictures", "__pycache__"))
    for command in TYPED:
        in_shell(command, tmp_path)
    assert (tmp_path / "runs" / "things-two" / "summary.json").is_file()


def test_what_is_not_run_says_what_it_needs() -> None:
    assert len(TYPED) == 10
    for kind, text in BLOCKS:
        assert kind in ("console", "bash", "csv", "python")
        assert kind != "bash" or text.startswith("# "), text
    named = set(re.findall(r"curr-reft ((?:data )?[a-z]+) ", "\n".join(text for _, text in BLOCKS)))
    assert named <= {" ".join(command.words) for command in COMMANDS}
    assert {"init", "check", "data show", "run", "eval", "report", "merge"} <= named
