"""How often and how fast a judge behind an endpoint is asked, and what it may cost."""

import re
from pathlib import Path

import pytest
from asking_judges import PRICES, candidate, endpoint, judge, picture
from judge_server import Answer, completion, judge_server

from curr_reft.errors import JudgeError
from curr_reft.improve.judges import endpoint as endpoint_module
from curr_reft.improve.judges.client import retry_after
from curr_reft.improve.judges.pacing import Pacer, Pause
from curr_reft.improve.records import CRITERIA


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT", 0.01)


# How often it is asked


def test_equal_answers_are_asked_once_and_repeats_anew(tmp_path: Path) -> None:
    import dataclasses

    same = [candidate(1), dataclasses.replace(candidate(1), sample=1)]
    with judge_server() as server:
        config = endpoint(server)
        assert len(judge(config, same, tmp_path).verdicts) == 2
        assert len(server.requests) == 1
        judge(config, same, tmp_path, repeat=1)
        assert len(server.requests) == 2
        for changed in ({"model": "other"}, {"temperature": 0.5}, {"max_tokens": 300}, {"image_max_pixels": 1000}):
            before = len(server.requests)
            judge(endpoint(server, **changed), same, tmp_path)
            judge(endpoint(server, **changed), same, tmp_path)
            assert len(server.requests) == before + 1, changed
        before = len(server.requests)
        judge(endpoint(server, timeout=9, concurrency=1, attempts=2), same, tmp_path)  # none of these is of a verdict
        assert len(server.requests) == before
        judge(config, [candidate(1, (picture(),))], tmp_path)
        judge(config, [candidate(1, (picture("blue"),))], tmp_path)
        judge(config, [candidate(1, (picture("blue"),))], tmp_path)
        assert len(server.requests) == before + 2
        judge(config, same, tmp_path, order=CRITERIA[::-1])
        assert len(server.requests) == before + 3


def test_failures_are_asked_again_only_when_wanted(tmp_path: Path) -> None:
    wanted = [candidate(number) for number in range(3)]
    with judge_server(lambda item, *_: Answer(body=completion("no")) if item == "1" else Answer()) as server:
        first = judge(endpoint(server, prices=PRICES), wanted, tmp_path).account
        assert first["failures"] == {"no JSON verdict": 1}
        assert first["cost"] == pytest.approx(4 * 0.3)  # an unusable reply is asked for twice
        before = len(server.requests)
        server.rule = lambda *_: Answer()
        assert judge(endpoint(server), wanted, tmp_path).verdicts[1].failure is not None
        assert len(server.requests) == before
        judged = judge(endpoint(server, prices=PRICES), wanted, tmp_path, retry_failed=True)
        again = judge(endpoint(server, prices=PRICES), wanted, tmp_path)
    assert len(server.requests) == before + 1
    assert judged.account["cost"] == again.account["cost"] == pytest.approx(5 * 0.3)  # the failure was paid too
    assert [verdict.total for verdict in judged.verdicts] == [91.5] * 3


def test_no_more_at_once_than_the_recipe_says(tmp_path: Path) -> None:
    with judge_server(lambda *_: Answer(delay=0.05)) as server:
        judge(endpoint(server, concurrency=5), [candidate(number) for number in range(21)], tmp_path)
    assert 2 <= server.most_under_way <= 5


def test_a_pacer_lets_its_rate_pass_and_no_more() -> None:
    now = [0.0]
    pacer = Pacer(60, clock=lambda: now[0])
    assert [pacer.reserve(1) for _ in range(4)] == [0, 1, 2, 3]
    assert pacer.reserve(10) == 4
    assert pacer.reserve(1) == 14
    now[0] = 100.0
    assert pacer.reserve(1) == 0  # what was not used is no credit for a burst
    assert pacer.reserve(1) == 1
    assert [Pacer(None, clock=lambda: 0.0).reserve(9) for _ in range(3)] == [0, 0, 0]


def test_the_rate_holds_over_real_requests(tmp_path: Path) -> None:
    with judge_server() as server:
        judge(endpoint(server, requests_per_minute=1200), [candidate(number) for number in range(13)], tmp_path)
    assert server.times[-1] - server.times[0] >= 12 * 0.05 - 0.03


def test_retry_after_stops_everybody(tmp_path: Path) -> None:
    now = [10.0]
    pause = Pause(clock=lambda: now[0])
    pause.extend(5)
    pause.extend(2)
    assert pause.remaining() == 5
    busy = Answer(status=429, headers=(("Retry-After", "0.4"),))
    with judge_server(lambda item, number, _: busy if (item, number) == ("2", 0) else Answer()) as server:
        judged = judge(endpoint(server, concurrency=1), [candidate(number) for number in range(4)], tmp_path)
    assert all(verdict.total == 91.5 for verdict in judged.verdicts)
    assert server.times[3] - server.times[2] >= 0.39


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_as_the_standard_says(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


# What it costs


def test_the_estimate_comes_first_and_the_cost_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with judge_server() as server:
        judged = judge(endpoint(server, prices=PRICES), [candidate(number) for number in range(4)], tmp_path)
        assert re.search(
            r"4 answers to judge, 0 known; about [\d,]+ tokens of prompts, at most", capsys.readouterr().out
        )
        again = judge(endpoint(server, prices=PRICES), [candidate(number) for number in range(4)], tmp_path)
    assert judged.account["cost"] == again.account["cost"] == pytest.approx(1.2)


def test_a_budget_stops_it_and_a_higher_one_goes_on(tmp_path: Path) -> None:
    wanted = [candidate(number) for number in range(30)]
    with judge_server() as server:
        with pytest.raises(JudgeError, match=r"the budget of 9 would be exceeded"):
            judge(endpoint(server, prices=PRICES, budget=9.0), wanted, tmp_path)
        judged = len(server.requests)
        assert 3 <= judged * 0.3 <= 9
        with pytest.raises(JudgeError, match="budget"):  # what was spent before counts
            judge(endpoint(server, prices=PRICES, budget=9.0), wanted, tmp_path)
        assert len(server.requests) <= judged + 1
        done = judge(endpoint(server, prices=PRICES, budget=90.0), wanted, tmp_path)
    assert len(server.requests) == 30
    assert done.account["cost"] == pytest.approx(9.0)


def test_a_budget_counts_what_earlier_rounds_have_cost_once(tmp_path: Path) -> None:
    """A verdict costs 0.3, and is asked for as long as another 4.52, the most one may cost, would not be too much."""
    first = [candidate(number) for number in range(10)]
    second = [candidate(number) for number in range(5, 25)]  # five of them were judged in the first round
    with judge_server() as server:
        small, enough = (endpoint(server, prices=PRICES, budget=budget, concurrency=1) for budget in (8.0, 11.8))
        judge(small, first, tmp_path)
        assert len(server.requests) == 10
        with pytest.raises(JudgeError, match=r"the budget of 8 would be exceeded \(3\.60 spent"):
            judge(small, second, tmp_path, before=first)
        assert len(server.requests) == 12
        judge(enough, second, tmp_path, before=first)  # 24 before the last: 7.2; the five counted twice would be 8.7
    assert len(server.requests) == 25
