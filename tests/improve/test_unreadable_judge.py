"""A judge whose replies hold no verdict: it is stopped early, says what it wrote, and is asked again when corrected."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from asking_judges import candidate, endpoint, judge
from judge_server import GOOD, Answer, completion, judge_server

from curr_reft.errors import JudgeError
from curr_reft.improve.config import JudgeConfig, LocalJudgeConfig
from curr_reft.improve.judges import Judged, judge_all, local, require_verdicts
from curr_reft.improve.judges.base import Workplace
from curr_reft.improve.judges.endpoint import ASKED_TWICE, NO_VERDICT
from curr_reft.improve.records import Verdict
from curr_reft.improve.reply import EXCERPT
from curr_reft.improve.verdict_cache import Entry
from curr_reft.policy.config import ModelConfig

WRONG_KEY = json.dumps({**{name: value for name, value in GOOD.items() if name != "logic"}, "logical_consistency": 80})
REPLIES: dict[str, tuple[Answer, str, str]] = {
    "another key": (Answer(body=completion(WRONG_KEY)), "missing score: logic", "logical_consistency"),
    "words": (Answer(body=completion("I like it.")), "no JSON verdict", "I like it."),
    "cut": (Answer(body=completion('{"comment": "it', finish="length")), "cut by length", "it"),
    "nothing": (Answer(body=completion("")), "empty reply", "empty"),
    "refusal": (Answer(body=completion(None, refusal="I may not.")), "refusal: I may not.", "I may not."),
    "a thought": (Answer(body=completion("<think>so")), "unfinished thought", "<think>so"),
    "control characters": (
        Answer(body=completion("\x1b]0;owned\x07\u202e")),
        "no JSON verdict",
        r"\x1b]0;owned\x07\u202e",
    ),
}


@pytest.mark.parametrize("case", REPLIES)
def test_it_is_stopped_after_a_few_answers_with_its_first_reply(case: str, tmp_path: Path) -> None:
    answer, failure, quoted = REPLIES[case]
    wanted = [candidate(number) for number in range(40)]
    with judge_server(lambda *_: answer) as server:
        with pytest.raises(JudgeError) as stopped:
            judge(endpoint(server), wanted, tmp_path)
        assert len(server.requests) <= NO_VERDICT * ASKED_TWICE
        text = str(stopped.value)
        for part in (failure, quoted, "--retry-failed", "hold no verdict"):
            assert part in text
        assert text.isprintable()
        server.rule = lambda *_: Answer()
        found = judge(endpoint(server), wanted, tmp_path, retry_failed=True)
    assert all(verdict.total == 91.5 for verdict in found.verdicts)
    assert {verdict.reply for verdict in found.verdicts} == {""}


def test_one_that_is_read_later_is_not_stopped(tmp_path: Path) -> None:
    """Two answers without a verdict, then one: the others are asked, and one in three never gets any."""
    with judge_server(lambda item, *_: Answer() if int(item) % 3 == 2 else REPLIES["words"][0]) as server:
        found = judge(endpoint(server), [candidate(number) for number in range(30)], tmp_path)
        retried = judge(endpoint(server), [candidate(number) for number in range(30)], tmp_path, retry_failed=True)
    assert found.account["verdicts"] == retried.account["verdicts"] == 10
    assert found.account["failures"] == {"no JSON verdict": 20}


def test_raw_replies_are_kept_in_part(tmp_path: Path) -> None:
    """In the verdict and in the cache, whose files of earlier versions are read, and stay readable for them."""
    long = "a" * 5000 + "the end"
    with judge_server(lambda item, *_: Answer(body=completion(long)) if item == "1" else Answer()) as server:
        judge(endpoint(server), [candidate(0)], tmp_path)
        with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as old:
            old.execute("DROP TABLE replies")
        found = judge(endpoint(server), [candidate(0), candidate(1)], tmp_path)
        again = judge(endpoint(server), [candidate(0), candidate(1)], tmp_path)
    assert again.verdicts == found.verdicts
    assert [len(verdict.reply) for verdict in found.verdicts] == [0, EXCERPT + len(" [...] ")]
    assert found.verdicts[1].reply.endswith("the end")
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as cache:
        assert len(cache.execute("SELECT * FROM verdicts").fetchone()) == 8
        assert cache.execute("SELECT count(*) FROM replies").fetchone() == (1,)


def test_no_verdict_at_all_is_an_error_where_a_judge_was_asked() -> None:
    def judged(name: str, *failures: str | None) -> Judged:
        verdicts = tuple(
            Verdict(candidate_id=str(n), scores={}, total=None, failure=failure, reply="so" if failure else "")
            for n, failure in enumerate(failures)
        )
        return Judged(verdicts=verdicts, account={"judge": name})

    for kind in ("endpoint", "local", "own (Mine)"):
        with pytest.raises(
            JudgeError, match=r"none of 2 answers got a verdict .*The first reply: 'so'.*--retry-failed"
        ):
            require_verdicts(judged(kind, "cut by length", "cut by length"))
    require_verdicts(judged("endpoint", "cut by length", None))
    require_verdicts(judged("rules", "no truth"))
    require_verdicts(judged("endpoint"))


def test_a_judge_in_this_process_is_stopped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the batch in which it is clear: it costs time, not money."""
    asked: list[int] = []

    def batch(_: Any, __: Any, prompts: Any) -> Any:
        asked.append(len(prompts))
        failed = Entry(scores={}, total=None, failure="cut by length", reply="so", completion_tokens=1)
        return [(key, failed) for key, _ in prompts]

    monkeypatch.setattr(local.LocalJudge, "_batch", batch)
    config = JudgeConfig(kind="local", local=LocalJudgeConfig(model=ModelConfig(path=str(tmp_path / "none")), batch=8))
    policy: Any = object()
    place = Workplace(cache=tmp_path / "verdicts.sqlite", say=print, load=lambda _: policy)
    with pytest.raises(JudgeError, match=r"the first 24 replies of .* hold no verdict \(cut by length\).*'so'"):
        judge_all(config, [candidate(number) for number in range(80)], place)
    assert asked == [8, 8, 8]
