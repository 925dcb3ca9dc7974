"""Every example does what its first lines say: their commands are carried out, on the embedded model."""

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from PIL import Image

from curr_reft.improve.records import CRITERIA

from as_typed import in_shell, quickly  # isort: skip
from chat_server import chat_server  # isort: skip

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FILES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name != "README.md")
RUNNABLE = [name for name in FILES if name not in ("tasks.py", "rewards.py")]


def commands(name: str) -> list[str]:
    """The commands in the first lines of an example."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    found = re.match(r"# [^\n]*From the repository's root[^\n]*:\n((?:#   [^\n]+\n)+)", text)
    assert found, f"{name} does not begin with what it is and its commands"
    return re.findall(r"#   (.+)\n", found[1])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root as a user has it, with the examples, where own_csv.yaml was carried out."""
    folder = tmp_path_factory.mktemp("repository")
    copy_examples(folder)
    for command in commands("own_csv.yaml"):
        quickly(command, folder)
    return folder


def copy_examples(folder: Path) -> None:
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("pictures", "__pycache__"))


def summary(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "runs" / name / "summary.json").read_text())
    return found


def test_a_table_of_ones_own_goes_through_all_stages(root: Path) -> None:
    stages = summary(root, "own-csv")["stages"]
    assert [(stage["form"], stage["steps"]) for stage in stages] == [("binary", 1), ("choice", 1), ("open", 1)]
    assert summary(root, "own-csv")["evaluation"]["curr_rl"]["in_domain"]["classification"]["n"] == 16
    assert len(list((root / "examples" / "pictures").glob("*.jpg"))) == 60


def test_a_task_of_ones_own(root: Path) -> None:
    quickly(commands("custom_task.yaml")[-1], root)
    assert set(summary(root, "custom-task")["evaluation"]["curr_rl"]["in_domain"]) == {"rough_count", "mean"}
    assert [stage["form"] for stage in summary(root, "custom-task")["stages"]] == ["binary", "open"]


def test_rewards_of_ones_own(root: Path) -> None:
    quickly(commands("custom_reward.yaml")[-1], root)
    steps = [row for row in tiny_run.rows(root / "runs" / "custom-reward") if row["kind"] == "train"]
    assert len(steps) == 2
    for step in steps:
        assert step["parts"]["brief"]["mean"] > 0
        assert 0 < step["parts"]["colour"]["n"] < step["parts"]["brief"]["n"]  # None but for counting


def test_the_trainer_of_trl(root: Path) -> None:
    said = quickly(commands("trl_adapter.py")[-1], root)
    accuracies = [float(each) for each in re.findall(r"'rewards/accuracy_reward/mean': '([\d.e-]+)'", said)]
    assert len(accuracies) == 3
    assert all(0 <= each <= 1 for each in accuracies)
    assert "'train_runtime'" in said


def test_a_judge_behind_a_server(root: Path) -> None:
    verdict = json.dumps({**dict.fromkeys(CRITERIA, 95), "total": 95, "comment": "well said"})
    with chat_server(verdict) as (url, asked):
        quickly(f"{commands('judge.yaml')[-1]} --self_improvement.judge.endpoint.base_url {url}", root)
    account = summary(root, "judge")["self_improvement"]
    assert account["queries"] == 16
    assert 0 < account["kept"] <= 8
    assert asked
    verdicts = [json.loads(line) for line in (root / "runs/judge/self-improve/verdicts.jsonl").read_text().splitlines()]
    assert {each["total"] for each in verdicts} == {95.0}
    assert len(verdicts) == account["candidates"]


def test_a_merged_model_is_asked_with_transformers_and_over_http(root: Path) -> None:
    merge, ask = commands("ask.py")
    quickly(merge, root)
    said = quickly(ask, root)
    assert re.search(r"<answer>.*</answer>\nanswer: \(", said), said
    with chat_server("<think> i see </think> <answer> red square, blue circle </answer>") as (url, asked):
        said = quickly(f"{ask} --server {url}", root)
    assert "answer: ('red square', 'blue circle')" in said
    [request] = asked
    picture, question = request["messages"][0]["content"]
    assert question["text"] == "list the objects."
    data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).size == (168, 126)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_command_as_it_is_typed(tmp_path: Path) -> None:
    """The examples one after the other, in a shell, each from nothing; then own_csv.yaml by two processes."""
    copy_examples(tmp_path)
    for name in ("own_csv.yaml", *(each for each in RUNNABLE if each not in ("own_csv.yaml", "judge.yaml"))):
        for command in commands(name):
            in_shell(command, tmp_path)
    [command] = re.findall(r"```\n(accelerate launch .*)\n```", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    in_shell(command, tmp_path)
    two, one = summary(tmp_path, "own-csv-two"), summary(tmp_path, "own-csv")
    assert [stage["steps"] for stage in two["stages"]] == [stage["steps"] for stage in one["stages"]] == [1, 1, 1]


def test_the_list_names_every_file() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(([\w.]+)\)", text)) == FILES
    assert all(commands(name) for name in RUNNABLE)
