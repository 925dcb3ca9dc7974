"""T17: a judge's server that fails in every way, and kills of the judging process. T18: keys appear nowhere."""

import json
import multiprocessing
import os
import random
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from judge_server import GOOD, Answer, Server, completion, judge_server

from curr_reft.errors import CurrReftError, JudgeError
from curr_reft.improve.config import EndpointConfig, JudgeConfig
from curr_reft.improve.judges import Judged, Workplace, judge_all
from curr_reft.improve.judges import endpoint as endpoint_module
from curr_reft.improve.records import Candidate
from curr_reft.questions.question import Question
from curr_reft.recipe import load_recipe
from curr_reft.rewards.grading import grade

SECRET = "sk-planted-3b1f7c9a5d2e"
AT_ONCE = 4  # requests under way, in the processes that are killed
FAULTS = ("busy", "error", "silent", "bad json", "empty", "refusal", "no http body", "off the scale")


def candidates(count: int) -> list[Candidate]:
    made = []
    for number in range(count):
        asked = Question(
            id=f"q{number}/open", origin=f"q{number}", task="math", form="open", prompt="how many?", truth="5",
            domain="math",
        )  # fmt: skip
        text = f"<think> i see </think> <answer> {number} </answer>"
        made.append(Candidate(question=asked, sample=0, completion=text, truncated=False, grade=grade(asked, text)))
    return made


def config(server: Server, **options: Any) -> JudgeConfig:
    given = {"base_url": server.url, "model": "m", "api_key_env": None, "timeout": 0.5, "concurrency": 16, **options}
    return JudgeConfig(kind="endpoint", endpoint=EndpointConfig(**given))


def judge(given: JudgeConfig, wanted: list[Candidate], folder: Path) -> Judged:
    return judge_all(given, wanted, Workplace(cache=folder / "verdicts.sqlite", say=lambda _: None))


def faulty(item: str, number: int, _: dict[str, Any]) -> Answer:
    """One request in five goes wrong, drawn by item and try; one item in fifty never gets a verdict."""
    draw = random.Random(f"{item} {number}")
    if int(item) % 50 == 7:
        return Answer(body=completion("I cannot judge this."))
    if draw.random() >= 0.2:
        return Answer()
    fault = draw.choice(FAULTS)
    return {
        "busy": Answer(status=429, headers=(("Retry-After", "0.05"),)),
        "error": Answer(status=draw.choice([500, 502, 503])),
        "silent": Answer(delay=1.0),
        "bad json": Answer(body=completion('{"accuracy": 9')),
        "empty": Answer(body=completion("")),
        "refusal": Answer(body=completion(None, refusal="I may not.")),
        "no http body": Answer(body="not json"),
        "off the scale": Answer(body=completion(json.dumps({**GOOD, "total": 900}))),
    }[fault]


def assert_accounted(judged: Judged, count: int) -> None:
    assert len(judged.verdicts) == count == judged.account["candidates"]
    for verdict in judged.verdicts:
        if verdict.failure is None:
            assert verdict.total == 91.5
        else:
            assert (verdict.total, dict(verdict.scores)) == (None, {})
    assert judged.account["verdicts"] + sum(judged.account["failures"].values()) == count


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_item_is_a_verdict_or_a_stated_failure(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT", 0.02)
    wanted = candidates(count)
    with judge_server(faulty) as server:
        judged = judge(config(server), wanted, tmp_path)
        asked = len(server.requests)
        again = judge(config(server), wanted, tmp_path)
        assert len(server.requests) == asked  # a second run sends nothing
    assert again.account["requests"] == 0
    assert again.verdicts == judged.verdicts
    assert_accounted(judged, count)
    failed = {number for number, verdict in enumerate(judged.verdicts) if verdict.failure is not None}
    assert {number for number in range(count) if number % 50 == 7} <= failed
    assert len(failed) < 0.1 * count
    assert set(judged.account["failures"]) <= {
        "no JSON verdict", "refusal", "empty reply", "off the scale", "no reply after 6 tries",
    }  # fmt: skip


def _judging(url: str, folder: str, count: int) -> None:
    endpoint_module.FIRST_WAIT = 0.02  # type: ignore[misc]
    given = EndpointConfig(base_url=url, model="m", api_key_env=None, timeout=0.5, concurrency=AT_ONCE)
    judge(JudgeConfig(kind="endpoint", endpoint=given), candidates(count), Path(folder))
    os._exit(0)


def stored(folder: Path) -> dict[bytes, tuple[Any, ...]]:
    """What the cache holds, read by another connection while a process may write."""
    path = folder / "verdicts.sqlite"
    if not path.exists():
        return {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as connection:
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return {}
        rows = connection.execute("SELECT * FROM verdicts").fetchall()
    connection.close()
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize(
    ("kills", "count"), [(4, 120), pytest.param(20, 1000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_kills_lose_nothing(kills: int, count: int, tmp_path: Path) -> None:
    """The process is killed (SIGKILL) as soon as it has kept another share; what was kept is never asked again."""
    context = multiprocessing.get_context("fork")
    done_before: dict[bytes, tuple[Any, ...]] = {}
    with judge_server(lambda *each: _slowly(faulty(*each))) as server:
        for number in range(kills):
            process = context.Process(target=_judging, args=(server.url, str(tmp_path), count))
            process.start()
            goal = (number + 1) * count // (kills + 2)
            deadline = time.monotonic() + 60
            while len(stored(tmp_path)) < goal:
                assert process.is_alive(), "it ended before it was killed"
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.kill()
            process.join()
            kept = stored(tmp_path)
            assert done_before.items() <= kept.items()
            # Lost are at most the requests under way, of this process and (not asked again yet) of the one before.
            assert len(server.tries) - len(kept) <= 2 * AT_ONCE
            assert len(kept) < count, "the kill came too late to tell anything"
            done_before = kept
        before_last = Counter(server.tries)
        judged = judge(config(server, concurrency=AT_ONCE), candidates(count), tmp_path)
    assert_accounted(judged, count)
    assert judged.account["from_cache"] == len(done_before)
    assert judged.account["asked"] == count - len(done_before)
    untouched = sum(server.tries[item] == before_last[item] for item in server.tries)
    assert untouched == len(done_before)


def _slowly(answer: Answer) -> Answer:
    return Answer(body=answer.body, status=answer.status, headers=answer.headers, delay=max(answer.delay, 0.05))


# T18


def leaks(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


ECHO = {
    "401": Answer(status=401, body={"error": {"message": f"Incorrect API key provided: {SECRET}."}}),
    "500": Answer(status=500, body=f"at handler(Authorization='Bearer {SECRET}')"),
    "307": Answer(status=307, headers=(("Location", f"http://127.0.0.2/v1?key={SECRET}"),)),
    "no json": Answer(body=f"debug: Bearer {SECRET}"),
    "comment": Answer(body=completion(json.dumps({**GOOD, "comment": f"the key is {SECRET}"}))),
    "words": Answer(body=completion(f"You are {SECRET}")),
    "number": Answer(body=completion(json.dumps({**GOOD, "total": SECRET}))),
    "refusal": Answer(body=completion(None, refusal=f"not for {SECRET}")),
}


@pytest.mark.parametrize("case", ECHO)
def test_a_server_that_echoes_the_key(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    caplog.set_level("INFO")  # the HTTP library's own DEBUG lines hold what servers send, word for word
    for name in ("openai", "curr_reft"):
        caplog.set_level("DEBUG", logger=name)
    echoed = ECHO[case]
    told: list[str] = []
    with judge_server(lambda item, *_: echoed if item != "0" else Answer()) as server:
        given = config(server, api_key_env="JUDGE_KEY", attempts=2)
        try:
            found = judge_all(given, candidates(3), Workplace(cache=tmp_path / "verdicts.sqlite", say=told.append))
            told += [json.dumps(verdict.to_dict()) for verdict in found.verdicts]
        except JudgeError as error:
            chain: BaseException | None = error
            while chain is not None:
                told += [str(chain), repr(chain.args)]
                chain = chain.__cause__ or chain.__context__
    assert all(request["authorization"] == f"Bearer {SECRET}" for request in server.requests)
    out, err = capfd.readouterr()
    for text in (*told, out, err, caplog.text, given.model_dump_json(), repr(given)):
        assert SECRET not in text
    assert leaks(tmp_path) == []


def test_keys_of_the_environment_go_to_no_server_that_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for name in ("ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", SECRET)
    with judge_server() as server:
        judge(config(server), candidates(1), tmp_path)
    assert server.requests[0]["authorization"] == "Bearer none"
    assert SECRET not in json.dumps(server.requests[0])


RECIPE = """\
name: x
data: {{shapes: {{train: {{math: 4}}, validation: {{math: 2}}, test: {{math: 2}}}}}}
curriculum: {{total_steps: 2, stages: [{{name: open, forms: {{open: 1}}, steps: rest}}]}}
evaluation: {{models: [base]}}
self_improvement:
  pools: {{math: {{queries: 2, quota: 2}}}}
  judge:
    kind: endpoint
    endpoint: {{{line}}}
"""


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("base_url: http://h/v1, model: m, api_key: SECRET", "unknown key"),
        ("base_url: http://h/v1, model: m, api_key_env: SECRET", "must be the NAME of an environment variable"),
        ("base_url: 'http://user:SECRET@h/v1', model: m", "keys come from the environment only"),
        ("base_url: 'http://h/v1?key=SECRET', model: m", "keys come from the environment only"),
        ("base_url: 'file:///etc/SECRET', model: m", "must be an http or https address"),
        ("base_url: h/v1, model: m, headers: {Authorization: SECRET}", "unknown key"),
    ],
    ids=["key", "as the name", "in the address", "in the query", "file", "headers"],
)
def test_a_key_in_a_recipe_is_refused_and_not_repeated(line: str, rule: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(line=line.replace("SECRET", SECRET)))
    with pytest.raises(CurrReftError, match=rule) as refused:
        load_recipe(tmp_path / "recipe.yaml")
    assert "recipe.yaml:9" in str(refused.value)
    assert SECRET not in str(refused.value)
    path = "self_improvement.judge.endpoint.api_key"
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(line="base_url: http://h/v1, model: m"))
    with pytest.raises(CurrReftError, match=path) as refused:
        load_recipe(tmp_path / "recipe.yaml", [f"--{path}", SECRET])
    assert SECRET not in str(refused.value)
