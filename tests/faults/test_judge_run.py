"""A run whose judge stands behind a server that fails and echoes the key: it comes through, the key is nowhere."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from judge_server import GOOD, Answer, completion, judge_server

from curr_reft.files import read_json, read_jsonl

SECRET = "sk-planted-77aa0c4e91"


def echoing(item: str, number: int, _: dict[str, Any]) -> Answer:
    if number == 0 and sum(item.encode()) % 5 == 0:
        return Answer(status=500, body=f"Authorization: Bearer {SECRET}")
    if item.endswith("7"):
        return Answer(body=completion(f"no verdict for Bearer {SECRET}"))
    return Answer(body=completion(json.dumps({**GOOD, "comment": f"your key is {SECRET}"})))


@pytest.mark.slow
def test_a_run_with_a_judge_behind_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    out = tmp_path / "run"
    with judge_server(echoing) as server:
        section = {
            "kind": "endpoint",
            "endpoint": {
                "base_url": server.url,
                "model": "m",
                "api_key_env": "JUDGE_KEY",
                "prices": {"input": 1, "output": 1},
                "budget": 100,
            },
        }
        done = tiny_run.curr_reft(
            "run", tiny_run.RECIPE, "--output", out, "--self_improvement.judge", json.dumps(section)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(request["authorization"] == f"Bearer {SECRET}" for request in server.requests)
        asked = len(server.requests)
        again = tiny_run.curr_reft("run", tiny_run.RECIPE, "--output", out, "--resume", "--self_improvement.judge",
                                   json.dumps(section))  # fmt: skip
        assert again.returncode == 0
        assert len(server.requests) == asked
    assert "judge m: at most 288 answers, " in done.stdout.split("profiling")[0]  # 48 queries, 6 samples
    assert re.search(r"judge m: \d+ answers to judge, 0 known; about [\d,]+ tokens", done.stdout)
    verdicts = read_jsonl(out / "self-improve" / "verdicts.jsonl")
    judged = read_json(out / "self-improve" / "judge.json")
    assert len(verdicts) == judged["candidates"] == read_json(out / "self-improve" / "account.json")["candidates"]
    assert {row["comment"] for row in verdicts if row["failure"] is None} == {"your key is [key]"}
    assert (out / "report.html").is_file()
    found = [str(path) for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert found == []
    assert SECRET not in done.stdout + done.stderr + again.stdout + again.stderr


@pytest.mark.slow
def test_a_run_whose_judge_cannot_be_read_stops_and_is_put_right(tmp_path: Path) -> None:
    """It is not taken for a run that kept nothing: exit code 1 in phase 2, and the way that its message names works."""
    run, unreadable = tmp_path / "run", Answer(body=completion("I like it."))
    with judge_server(lambda *_: unreadable) as server:
        section = {"kind": "endpoint", "endpoint": {"base_url": server.url, "model": "m", "api_key_env": None}}
        flags = ("--self_improvement.judge", json.dumps(section))
        stopped = tiny_run.curr_reft("run", tiny_run.RECIPE, "--output", run, *flags)
        assert stopped.returncode == 1, stopped.stdout + stopped.stderr
        assert "hold no verdict" in stopped.stderr
        assert "I like it." in stopped.stderr
        assert "--retry-failed" in stopped.stderr
        assert len(server.requests) == 6
        assert read_json(run / "run.json")["state"] == "failed"
        server.rule = lambda *_: Answer()
        judged = tiny_run.curr_reft("judge", run, "--retry-failed")
        assert judged.returncode == 0, judged.stdout + judged.stderr
        asked = len(server.requests)
        resumed = tiny_run.curr_reft("run", tiny_run.RECIPE, "--output", run, *flags, "--resume")
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        assert len(server.requests) == asked
    assert read_json(run / "self-improve" / "judge.json")["failures"] == {}
