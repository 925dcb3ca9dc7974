"""Every example does what its first lines say: their commands are carried out, on the embedded model."""

import base64
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from PIL import Image

from curr_reft.improve.records import CRITERIA
from curr_reft.recipe import load_recipe

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FILES = sorted(path.name for path in EXAMPLES.iterdir() if path.is_file() and path.name != "README.md")
RUNNABLE = [name for name in FILES if name not in ("tasks.py", "rewards.py")]
LIMIT = 240.0  # seconds any one command may take; a busy machine needs a tenth of it


def commands(name: str) -> list[str]:
    """The commands in the first lines of an example."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    found = re.match(r"# [^\n]*From the repository's root[^\n]*:\n((?:#   [^\n]+\n)+)", text)
    assert found, f"{name} does not begin with what it is and its commands"
    return re.findall(r"#   (.+)\n", found[1])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has: the examples, and own_csv.yaml carried out as it is typed."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(EXAMPLES, folder / "examples", ignore=shutil.ignore_patterns("pictures", "__pycache__"))
    for command in commands("own_csv.yaml"):
        typed(command, folder)
    return folder


def typed(command: str, root: Path, **environment: str) -> str:
    """A command as a user types it, in the shell, with the virtual environment active; what it prints."""
    done = subprocess.run(
        command,
        shell=True,
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
        env={
            **os.environ,
            **tiny_run.ONE_THREAD,
            "PATH": f"{tiny_run.PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
            **environment,
        },
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def carried_out(command: str, root: Path, *more: str) -> None:
    """A ``curr-reft`` command in a process that has imported everything: quicker, and otherwise the same."""
    program, *words = shlex.split(command)
    assert program == "curr-reft", command
    placed = [str(root / word) if word.startswith(("examples/", "runs/")) else word for word in words]
    if words[0] == "run":
        placed += ["--output", str(root / load_recipe(placed[1]).output)]
    log = root / "log"
    assert tiny_run.run(*placed, *more, log=log, command=()) == 0, log.read_text()


def summary(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "runs" / name / "summary.json").read_text())
    return found


def test_a_table_of_ones_own_goes_through_all_stages(root: Path) -> None:
    stages = summary(root, "own-csv")["stages"]
    assert [(stage["form"], stage["steps"]) for stage in stages] == [("binary", 1), ("choice", 1), ("open", 1)]
    assert summary(root, "own-csv")["evaluation"]["curr_rl"]["in_domain"]["classification"]["n"] == 16
    assert len(list((root / "examples" / "pictures").glob("*.jpg"))) == 60


def test_a_task_of_ones_own(root: Path) -> None:
    carried_out(commands("custom_task.yaml")[-1], root)
    assert set(summary(root, "custom-task")["evaluation"]["curr_rl"]["in_domain"]) == {"rough_count", "mean"}
    assert [stage["form"] for stage in summary(root, "custom-task")["stages"]] == ["binary", "open"]


def test_rewards_of_ones_own(root: Path) -> None:
    carried_out(commands("custom_reward.yaml")[-1], root)
    steps = [row for row in tiny_run.rows(root / "runs" / "custom-reward") if row["kind"] == "train"]
    assert len(steps) == 2
    for step in steps:
        assert step["parts"]["brief"]["mean"] > 0
        assert 0 < step["parts"]["colour"]["n"] < step["parts"]["brief"]["n"]  # None but for counting


def test_the_trainer_of_trl(root: Path) -> None:
    said = typed(commands("trl_adapter.py")[-1], root)
    accuracies = [float(each) for each in re.findall(r"'rewards/accuracy_reward/mean': '([\d.e-]+)'", said)]
    assert len(accuracies) == 3
    assert all(0 <= each <= 1 for each in accuracies)
    assert "'train_runtime'" in said


def test_a_judge_behind_a_server(root: Path) -> None:
    verdict = json.dumps({**dict.fromkeys(CRITERIA, 95), "total": 95, "comment": "well said"})
    with server(verdict) as (url, asked):
        carried_out(commands("judge.yaml")[-1], root, "--self_improvement.judge.endpoint.base_url", url)
    account = summary(root, "judge")["self_improvement"]
    assert account["queries"] == 16
    assert 0 < account["kept"] <= 8
    assert asked
    verdicts = [json.loads(line) for line in (root / "runs/judge/self-improve/verdicts.jsonl").read_text().splitlines()]
    assert {each["total"] for each in verdicts} == {95.0}
    assert len(verdicts) == account["candidates"]


def test_a_merged_model_is_asked_with_transformers_and_over_http(root: Path) -> None:
    merge, ask = commands("ask.py")
    carried_out(merge, root)
    said = typed(ask, root)
    assert re.search(r"<answer>.*</answer>\nanswer: \(", said), said
    with server("<think> i see </think> <answer> red square, blue circle </answer>") as (url, asked):
        said = typed(f"{ask} --server {url}", root)
    assert "answer: ('red square', 'blue circle')" in said
    [request] = asked
    picture, question = request["messages"][0]["content"]
    assert question["text"] == "list the objects."
    data = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).size == (168, 126)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [name for name in RUNNABLE if name not in ("own_csv.yaml", "judge.yaml")])
def test_every_command_as_it_is_typed(root: Path, name: str) -> None:
    for place in ("custom-task", "custom-reward", "own-csv-model"):
        shutil.rmtree(root / "runs" / place, ignore_errors=True)
    for command in commands(name):
        typed(command, root)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes(root: Path) -> None:
    [command] = re.findall(r"```\n(accelerate launch .*)\n```", (EXAMPLES / "README.md").read_text(encoding="utf-8"))
    typed(command, root)
    two, one = summary(root, "own-csv-two"), summary(root, "own-csv")
    assert [stage["steps"] for stage in two["stages"]] == [stage["steps"] for stage in one["stages"]]


def test_the_list_names_every_file() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\(([\w.]+)\)", text)) == FILES
    assert all(commands(name) for name in RUNNABLE)


@contextmanager
def server(answer: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(its address, the requests it got); it says ``answer`` to every chat completion."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
            body = json.dumps({"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the console."""

    running = ThreadingHTTPServer(("localhost", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{running.server_port}/v1", asked
    finally:
        running.shutdown()
        running.server_close()
