"""S10: a reward that changes the process, or what it was given, changes nothing of the run; what ends, ends by name."""

import io
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curr_reft import console, process_state
from curr_reft.cli import main
from curr_reft.errors import TrainingError
from curr_reft.process_state import LINES
from curr_reft.questions.question import Question
from curr_reft.rewards.config import CustomRewardConfig, RewardsConfig
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import Completed, grade_all
from curr_reft.rewards.parts import Parts
from curr_reft.tasks import TASKS
from curr_reft.tasks.user import use_tasks

QUESTION = Question(
    id="a/choice", origin="a", task="math", form="choice", prompt="how many?", truth=frozenset("A"), source="f:1",
    options=("3", "4"), domain="shapes",
)  # fmt: skip
ROWS = [Completed(QUESTION, f"<think>x</think><answer>{letter}</answer>", token_ids=(1, 2)) for letter in "ABAB"]

SOURCE = """
import io, logging, os, signal, sys, threading
import numpy as np
import torch

def ones(completions):
    return [1.0] * len(completions)

def mutates(prompts, completions, completion_ids, truth, options, solution, accuracy, id, task, **columns):
    for messages, ids, given in zip(completions, completion_ids, options):
        messages[0]["content"] = "mine"
        messages.clear()
        ids.append(7)
        given.clear()
    for column in (prompts, completions, completion_ids, truth, options, solution, accuracy, id, task):
        column.reverse()
        del column[1:]
        column.append(None)
    return [1.0] * 4

def moves(completions):
    os.chdir("/")
    return ones(completions)

def moves_and_raises(completions):
    os.chdir("/")
    torch.set_grad_enabled(False)
    raise RuntimeError("a fault of mine")

async def awaited(completions):
    os.chdir("/")
    torch.set_default_dtype(torch.float64)
    sys.stdout = io.StringIO()
    return ones(completions)

def streams(completions):
    sys.stdout = open(os.devnull, "w")
    sys.stderr = None
    sys.stdin = None
    return ones(completions)

def closes_the_stream(completions):
    sys.stdout.close()
    sys.stderr.close()
    return ones(completions)

def signals(completions):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    return ones(completions)

def of_torch(completions):
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.set_default_device("meta")
    return ones(completions)

def others(completions):
    np.seterr(all="raise")
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(777)
    return ones(completions)

def prints(completions):
    for number in range(200_000):
        print("line", number)
    print("a long one", "x" * 100_000, file=sys.stderr)
    sys.stdout.write("without an end")
    return ones(completions)

def prints_little(completions):
    print("one", end="")
    print(" line")
    sys.stdout.writelines(["a\\n", "b"])
    sys.stdout.flush()
    return ones(completions)

class Rude(BaseException):
    pass

def rude(completions):
    raise Rude("no Exception")

def generator_exit(completions):
    raise GeneratorExit

def exits(completions):
    sys.exit(0)

def threads(completions, log_metric):
    def work():
        for number in range(200):
            log_metric(f"m{number}", 1.0)
    threading.Thread(target=work, daemon=True).start()
    return ones(completions)

def forks_and_returns(completions):
    child = os.fork()
    if child == 0:
        return ones(completions)
    return [float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))] * len(completions)

def forks_and_exits(completions):
    child = os.fork()
    if child == 0:
        sys.exit(0)
    return [float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))] * len(completions)

async def forks_and_awaits(completions):
    child = os.fork()
    if child == 0:
        return ones(completions)
    return [float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))] * len(completions)

LOCK = None

def closes(completions):
    os.close(LOCK)
    return ones(completions)

def replaces(completions):
    os.close(LOCK)
    assert os.open(os.devnull, os.O_RDONLY) <= LOCK
    return ones(completions)

def closes_all(completions):
    os.closerange(LOCK, LOCK + 1)
    raise RuntimeError("and more")

def options_are_mine(completions, words):
    words.append("x")
    return [float(len(words))] * len(completions)
"""


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Grade]]]:
    (tmp_path / "mine.py").write_text(SOURCE)
    monkeypatch.setattr(process_state, "_warned", set())
    console.configure()

    def score(name: str, lock: int | None = None, **keys: Any) -> list[Grade]:
        own = {"name": "mine", "call": f"{tmp_path / 'mine.py'}:{name}", **keys}
        config = RewardsConfig(custom=(CustomRewardConfig(**own),))
        parts = Parts(config)
        if not keys:
            parts.custom[0].function.__globals__.update(LOCK=lock)
        return parts.add(grade_all([row[:3] for row in ROWS], config), ROWS)

    yield score
    # What a test of a broken guard would leave for all others.
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)
    logging.disable(logging.NOTSET)


def process() -> dict[str, Any]:
    return {
        "directory": os.getcwd(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "closed": (sys.stdout.closed, sys.stderr.closed),
        "signals": [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE)],
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "device": torch.ones(1).device,
        "numpy": np.geterr(),
        "logging": logging.root.manager.disable,
        "recursion": sys.getrecursionlimit(),
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("moves", "the working directory"),
        ("moves_and_raises", "torch's grad mode"),
        ("awaited", "torch's default dtype"),
        ("streams", "sys.stdin, sys.stdout or sys.stderr"),
        ("closes_the_stream", ""),
        ("signals", "the handler of SIGTERM"),
        ("of_torch", "torch's default device"),
        ("others", "numpy.seterr"),
    ],
)
def test_the_process_is_as_it_was(scored: Any, name: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = process()
    grades = scored(name)
    assert process() == before
    assert [grade.parts["mine"] for grade in grades] == [None if "raises" in name else 1.0] * 4
    assert f"mine.py:{name}) changed {said}, which was put back" in capsys.readouterr().err or not said


def test_what_a_reward_is_given_is_its_own(scored: Any) -> None:
    """Its options too: the recipe keeps what was written."""
    grades = scored("mutates")
    assert [grade.parts["mine"] for grade in grades] == [1.0] * 4
    assert [grade.accuracy for grade in grades] == [1.0, 0.0, 1.0, 0.0]
    assert QUESTION.options == ("3", "4")
    assert [row.token_ids for row in ROWS] == [(1, 2)] * 4
    words = ["a"]
    assert scored("options_are_mine", options={"words": words})[0].parts["mine"] == 2.0
    assert words == ["a"]


def test_a_truth_that_can_change_is_given_as_a_copy(tmp_path: Path) -> None:
    """A task of a user's own may keep lists in it."""
    (tmp_path / "mine.py").write_text("def mine(completions, truth):\n    truth[0].append(9)\n    return [1.0]\n")
    config = RewardsConfig(custom=(CustomRewardConfig(name="mine", call=f"{tmp_path / 'mine.py'}:mine"),))
    truth = [1, 2]
    row = Completed(Question(id="a", origin="a", task="math", form="open", prompt="", truth=truth, source=""), "x")
    grade = Grade(status=Status.OK, format=1.0, accuracy=1.0)
    assert Parts(config).add([grade], [row._replace(question=row.question)])[0].parts["mine"] == 1.0
    assert truth == [1, 2]


def test_what_is_printed_is_bounded_and_leaves_standard_output_alone(
    scored: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    console.open_log(tmp_path / "run.log", lambda: True)
    try:
        scored("prints")
    finally:
        console.close_log()
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert lines[: LINES + 1] == [
        *(f"line {number}" for number in range(LINES)),
        f"reward mine ({tmp_path / 'mine.py'}:prints) printed {200_001 - LINES:,} lines more, which are not shown",
    ]
    assert len((tmp_path / "run.log").read_text().splitlines()) == LINES + 1
    scored("prints_little")
    assert capsys.readouterr().err == "one line\na\nb\n"
    console.configure(quiet=True)
    scored("prints_little")
    assert capsys.readouterr().err == ""


def test_grade_writes_json_whatever_a_reward_prints(
    scored: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "name: own\nrewards: {custom: [{name: own, call: 'mine.py:prints_little'}]}\n"
        "curriculum: {total_steps: 1, stages: [{name: open, forms: {open: 1}, steps: rest}]}\n"
        "evaluation: {models: [base, curr_rl]}\n"
    )
    line = {"task": "math", "form": "open", "truth": "3", "completion": "<think>x</think><answer>3</answer>"}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(line) + "\n"))
    assert main(["grade", "--recipe", str(tmp_path / "recipe.yaml")]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["parts"]["own"] == 1.0
    assert printed.err.startswith("one line\na\nb\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("rude", "Rude: no Exception"), ("generator_exit", "GeneratorExit: "), ("exits", "SystemExit: 0")],
)
def test_whatever_is_raised_costs_a_score_and_not_the_run(scored: Any, name: str, reason: str) -> None:
    grades = scored(name)
    assert {grade.reason for grade in grades} == {f"reward mine raised {reason}"}
    assert {grade.status for grade in grades} == {Status.GRADER_FAILED}


def test_a_thread_left_behind_may_log(scored: Any) -> None:
    for _ in range(20):
        assert scored("threads")[0].parts["mine"] == 1.0


@pytest.mark.parametrize("name", ["forks_and_returns", "forks_and_exits", "forks_and_awaits"])
def test_a_forked_child_does_not_continue_the_run(scored: Any, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert [grade.parts["mine"] for grade in scored(name)] == [1.0] * 4  # the exit code of the child
    printed = capfd.readouterr()
    assert printed.err.count("forked returned from it, and was ended") == 1
    assert f"mine.py:{name})" in printed.err


@pytest.mark.parametrize("name", ["closes", "replaces", "closes_all"])
def test_a_closed_descriptor_of_the_run_stops_it_by_name(scored: Any, name: str, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    process_state.watch(descriptor, "the lock of the run")
    try:
        with pytest.raises(
            TrainingError, match=rf"reward mine .*mine.py:{name}\) closed or replaced the lock of the run"
        ):
            scored(name, lock=descriptor)
    finally:
        process_state.unwatch(descriptor)


def test_loading_code_leaves_the_process_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Statements at the top of the file: a script that was made a reward."""
    (tmp_path / "mine.py").write_text(
        "import os, torch\nos.chdir('/')\ntorch.set_grad_enabled(False)\n"
        "class Made:\n    def __init__(self):\n        os.chdir('/')\n        self.__name__ = 'made'\n"
        "    def __call__(self, completions):\n        return [1.0] * len(completions)\n"
    )
    before = process()
    Parts(RewardsConfig(custom=(CustomRewardConfig(name="mine", call=f"{tmp_path / 'mine.py'}:Made"),)))
    assert process() == before


def test_a_task_leaves_the_process_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks.py").write_text(
        "import os, torch\nfrom curr_reft.tasks.simple import SimpleTask\n"
        "class Own(SimpleTask):\n    name = 'own_task'\n"
        "    def parse(self, text):\n        os.chdir('/'); torch.set_grad_enabled(False); return text\n"
        "    def score(self, answer, truth):\n        return float(answer == truth)\n"
        "    def false_claim(self, truth, rng):\n        return truth + '0'\n"
        "    def distractors(self, truth, rng, n):\n        return [truth + '0'] * n\n"
    )
    use_tasks([f"{tmp_path / 'tasks.py'}:Own"])
    try:
        before = process()
        assert TASKS["own_task"].parse("3") == "3"
        assert process() == before
    finally:
        use_tasks(())
