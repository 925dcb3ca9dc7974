"""Real models as judges: in this process, and behind a real OpenAI-compatible server of transformers."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from asking_judges import candidate, endpoint, judge, picture
from judge_models import VERDICT, build_judge
from spelling_model import build_spelling_model

from curr_reft.improve.config import JudgeConfig, LocalJudgeConfig
from curr_reft.improve.judges import local as local_module
from curr_reft.improve.records import Candidate
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_policy
from curr_reft.policy.policy import Policy

START_SECONDS = 180


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def local(folder: Path, **options: Any) -> JudgeConfig:
    return JudgeConfig(kind="local", local=LocalJudgeConfig(model=ModelConfig(path=str(folder)), **options))


def pool() -> list[Candidate]:
    """With and without images."""
    return [candidate(number, (picture(size=(56, 84)),) if number % 2 else ()) for number in range(5)]


def test_a_random_model_gives_failures_that_say_why_and_is_asked_once(tmp_path: Path) -> None:
    folder = build_spelling_model(tmp_path / "model", longest=1500)
    wanted = [*pool(), candidate(9, text="<answer> 9 </answer>" + "so " * 2000)]
    first = judge(local(folder, max_new_tokens=6, batch=4), wanted, tmp_path)
    assert [str(verdict.failure).split(":")[0] for verdict in first.verdicts[:5]] == ["cut by length"] * 5
    assert str(first.verdicts[5].failure).startswith("cannot be asked: the prompt has")
    assert all(verdict.total is None for verdict in first.verdicts)
    assert first.account["completion_tokens"] == 5 * 6
    loads: list[int] = []
    again = judge(local(folder, max_new_tokens=6, batch=1), wanted, tmp_path, load=lambda _: loads.append(1))
    assert again.verdicts == first.verdicts
    assert loads == []  # known: no model is loaded for it


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_said_does_not_depend_on_the_batch(temperature: float, tmp_path: Path) -> None:
    folder = build_spelling_model(tmp_path / "model")
    said: list[list[str]] = []

    def record(text: str) -> Any:
        said[-1].append(text)
        raise local_module.UnusableReplyError("as expected")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_module, "read_reply", record)
        for batch in (5, 2):
            said.append([])
            where = tmp_path / str(batch)
            judge(local(folder, max_new_tokens=6, batch=batch, temperature=temperature), pool(), where, load=_never_cut)
    assert len(said[0]) == 5
    assert said[0] == said[1]


def _never_cut(config: ModelConfig) -> Policy:
    """A policy for which every token but a few ends the reply, so that it is read."""
    policy = load_policy(config)
    policy.end_ids = tuple(range(5, policy.vocabulary_size))
    return policy


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    seen = [candidate(number, (picture(size=(56, 84)),) if number % 2 else ()) for number in range(8)]
    return build_judge(tmp_path_factory.mktemp("taught") / "judge", seen, steps=150)


@pytest.fixture
def served(taught: Path, tmp_path: Path) -> Iterator[str]:
    """The address of ``transformers serve`` with the taught model."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", taught, "--host", "127.0.0.1"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"], stdout=log, stderr=log, env=environment
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


@pytest.mark.slow
def test_a_model_judges_a_pool_here_and_behind_a_server_alike(taught: Path, served: str, tmp_path: Path) -> None:
    """End to end: prompt, images, chat template, generation, JSON and verdict; both ways give the same."""
    here = judge(local(taught, max_new_tokens=120), pool(), tmp_path / "here")
    config = endpoint(served, model=str(taught), max_tokens=120, timeout=120.0, concurrency=2)
    there = judge(config, pool(), tmp_path / "there")
    assert [verdict.total for verdict in here.verdicts] == [88.0] * 5
    assert there.verdicts == here.verdicts
    assert there.account["requests"] == 5
    assert there.account["prompt_tokens"] == here.account["prompt_tokens"]
    assert '"total": 88' in VERDICT
    again = judge(config, pool(), tmp_path / "there")
    assert again.account["requests"] == 0
