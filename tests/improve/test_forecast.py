"""What judging will cost is told before anything is sampled, by check and by a run, and is not exceeded."""

import json
from typing import Any

import pytest
import tiny_run
from asking_judges import candidate
from judge_server import judge_server

from curr_reft.cli import main
from curr_reft.improve.config import EndpointConfig, JudgeConfig, PoolConfig, PricesConfig, SelfImprovementConfig
from curr_reft.improve.judges import Workplace, judge_all
from curr_reft.improve.judges.forecast import forecast_judging, forecast_line

PRICES = PricesConfig(input=1000.0, output=10000.0)


def config(url: str = "http://localhost:1/v1", rounds: int = 1, **options: Any) -> SelfImprovementConfig:
    server = EndpointConfig(base_url=url, model="m", api_key_env=None, max_tokens=100, **options)
    return SelfImprovementConfig(
        pools={"math": PoolConfig(queries=5, quota=5)},
        samples=4,
        rounds=rounds,
        judge=JudgeConfig(kind="endpoint", endpoint=server),
    )


QUESTIONS = [candidate(number).question for number in range(8)]


def test_it_counts_every_answer_of_every_round_at_its_longest() -> None:
    found = forecast_judging(config(rounds=3, prices=PRICES, budget=9.0), QUESTIONS, 0, 64)
    assert found is not None
    assert (found.answers, found.reply_tokens) == (5 * 4 * 3, 5 * 4 * 3 * 100)
    one = forecast_judging(config(), QUESTIONS[:5], 0, 64)
    assert one is not None
    assert found.prompt_tokens == 3 * one.prompt_tokens  # all prompts of these are of one length
    assert one.prompt_tokens > 5 * 4 * 64
    assert found.cost == pytest.approx((found.prompt_tokens * 1000 + found.reply_tokens * 10000) / 1e6)
    assert "budget 9; it may stop there before the end" in forecast_line(found)
    assert "prices would say what that costs" in forecast_line(one)
    assert forecast_judging(config().model_copy(update={"judge": JudgeConfig()}), QUESTIONS, 0, 64) is None


def test_what_is_spent_stays_below_it(tmp_path: Any) -> None:
    with judge_server() as server:
        given = config(server.url, prices=PRICES)
        found = forecast_judging(given, QUESTIONS[:5], 0, 64)
        place = Workplace(cache=tmp_path / "verdicts.sqlite", say=print)
        spent = judge_all(given.judge, [candidate(number) for number in range(5)], place).account["cost"]
    assert found is not None
    assert found.cost is not None
    assert 0 < spent < found.cost


def test_check_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    section: dict[str, Any] = {"base_url": "http://localhost:1/v1", "model": "m", "max_tokens": 100}
    section["api_key_env"] = None
    section["prices"] = {"input": 2.5, "output": 10}
    judge = json.dumps({"kind": "endpoint", "endpoint": section})
    words = ["check", str(tiny_run.RECIPE), "--no-model", "--self_improvement.judge", judge]
    assert main([*words, "--self_improvement.rounds", "2"]) == 0
    told = capsys.readouterr().out
    assert "judge m: at most 576 answers" in told  # 48 queries, 6 samples, 2 rounds
    assert "57,600 of replies" in told
    assert "at the prices of the recipe; no budget" in told
