"""Phase 2: what the judge prefers, what is kept, and that the account adds up."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curr_reft.errors import DataError, JudgeError
from curr_reft.files import read_json, read_jsonl
from curr_reft.improve import judges, phase
from curr_reft.improve.config import JudgeConfig, PoolConfig, SelfImprovementConfig
from curr_reft.improve.judges import judge_all
from curr_reft.improve.judges.rules import RulesJudge
from curr_reft.improve.records import CRITERIA, Candidate, Verdict
from curr_reft.improve.sample import draw_queries, sample_candidates
from curr_reft.improve.select import select
from curr_reft.parquet import read_rows
from curr_reft.policy.answers import Answered
from curr_reft.policy.config import SamplingConfig
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import grade
from curr_reft.train.config import SftConfig


def question(name: str, task: str = "math", truth: Any = "5", domain: str = "") -> Question:
    return Question(
        id=f"{name}/open", origin=name, task=task, form="open", prompt="how many", truth=truth, domain=domain or task
    )


def candidate(asked: Question, completion: str, sample: int = 0, truncated: bool = False) -> Candidate:
    graded = grade(asked, completion, truncated)
    return Candidate(question=asked, sample=sample, completion=completion, truncated=truncated, grade=graded)


def verdict(of: Candidate, total: float | None) -> Verdict:
    if total is None:
        return Verdict(candidate_id=of.id, scores={}, total=None, failure="the judge is ill")
    return Verdict(candidate_id=of.id, scores=dict.fromkeys(CRITERIA, total), total=total)


def config(threshold: float = 85.0, **pools: tuple[int, int]) -> SelfImprovementConfig:
    given = pools or {"math": (10, 10)}
    return SelfImprovementConfig(
        pools={name: PoolConfig(queries=queries, quota=quota) for name, (queries, quota) in given.items()},
        samples=4,
        threshold=threshold,
        sft=SftConfig(steps=1),
    )


WORKPLACE = judges.Workplace(cache=Path("not used by rules"), say=print)
RIGHT = "<think> i see 2 red and 3 blue so 5 </think> <answer> 5 </answer>"
LUCKY = "<think> i guess </think> <answer> 5 </answer>"
WRONG_GUESS = "<think> i guess </think> <answer> 4 </answer>"
CLAIMED = "<think> i see 2 red and 2 blue so 4 </think> <answer> 4 </answer>"
BOX = '<think> red circle at {box} </think> <answer> {{"bbox_2d":[{box}]}} </answer>'


def totals(*candidates: Candidate) -> list[float]:
    return [found.total for found in RulesJudge().judge(candidates) if found.total is not None]


def test_the_rules_prefer_careful_to_lucky_to_wrong() -> None:
    asked = question("a")
    careful, lucky, guess, claimed = totals(*(candidate(asked, text) for text in (RIGHT, LUCKY, WRONG_GUESS, CLAIMED)))
    assert careful == 100
    assert careful > 85 > lucky > guess
    assert claimed < 85  # a consistent story of a wrong answer does not pass either


def test_the_rules_for_boxes_and_names() -> None:
    box = question("b", "detection", (10.0, 10.0, 40.0, 40.0))
    seen, unseen = totals(
        candidate(box, BOX.format(box="10,10,40,40")),
        candidate(box, '<think> i guess </think> <answer> {"bbox_2d":[10,10,40,40]} </answer>'),
    )
    assert seen == 100
    assert unseen == 75
    names = question("c", "classification", ("red circle", "blue square"))
    both, half = totals(
        candidate(names, "<think> red circle and blue square </think> <answer> red circle, blue square </answer>"),
        candidate(names, "<think> red circle </think> <answer> red circle, blue square </answer>"),
    )
    assert both == 100
    assert half == 100 - 25 / 2


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "<answer> 5 </answer>",
        "<think> so 5 </think> <answer> 5 </answer> <answer> 5 </answer>",
        "<think> so 5 so 5 so 5 so 5 so 5 so 5 so 5 so 5 so 5 so 5 </think> <answer> 5 </answer> and on",
    ],
)
def test_the_rules_do_not_pass_what_has_no_form(text: str) -> None:
    assert totals(candidate(question("a"), text))[0] <= 75


def test_repetition_and_cuts_cost_fluency() -> None:
    asked = question("a")
    babbling = f"<think> {'i see 2 red and 3 blue ' * 20} so 5 </think> <answer> 5 </answer>"
    endless = f"<think> {' '.join(map(str, range(500)))} so 5 </think> <answer> 5 </answer>"
    found = RulesJudge().judge([candidate(asked, text) for text in (RIGHT, babbling, endless)])
    scores = [each.scores["fluency"] for each in found]
    assert scores[0] == 100
    assert 0 < scores[1] < 20
    assert scores[2] == 0
    (cut,) = RulesJudge().judge([candidate(asked, RIGHT, truncated=True)])
    assert cut.scores["fluency"] == 0


def test_no_score_of_the_verifier_is_a_failure_and_no_zero() -> None:
    asked = question("a")
    failed = Candidate(
        question=asked,
        sample=0,
        completion=RIGHT,
        truncated=False,
        grade=Grade(status=Status.TIMED_OUT, format=1.0, accuracy=None, correct=None, reason="5 s"),
    )
    (found,) = judge_all(JudgeConfig(), [failed], WORKPLACE).verdicts
    assert (found.total, found.scores) == (None, {})
    assert found.failure == "no score: timed_out 5 s"
    kept, account = select([failed], [found], config(threshold=0), seed=0)
    assert kept == []
    assert account["failed_verdicts"] == 1


def test_a_judge_that_breaks_its_contract_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [candidate(question(name), RIGHT) for name in "ab"]

    class Odd:
        name = "odd"

        def __init__(self, found: list[Verdict]) -> None:
            self.found = found

        def judge(self, _: Sequence[Candidate]) -> list[Verdict]:
            return self.found

        def account(self) -> dict[str, Any]:
            return {}

    good = [verdict(each, 50) for each in asked]
    cases = [
        (good[:1], "one verdict for each candidate"),
        (good[::-1], "in order"),
        ([good[0], verdict(asked[1], 101)], r"odd scored b/open#0 off the scale"),
        ([good[0], verdict(asked[1], float("nan"))], "off the scale"),
        ([good[0], Verdict(candidate_id=asked[1].id, scores={"accuracy": 1.0}, total=1.0)], "off the scale"),
    ]
    for found, message in cases:
        monkeypatch.setitem(judges.JUDGES, "rules", lambda *_, found=found: Odd(found))
        with pytest.raises(JudgeError, match=message):
            judge_all(JudgeConfig(), asked, WORKPLACE)


# Selection


def test_the_threshold_is_strict_and_verification_is_above_the_judge() -> None:
    asked = [
        candidate(question("at"), RIGHT),
        candidate(question("above"), RIGHT),
        candidate(question("wrong"), CLAIMED),
        candidate(question("formless"), "so 5 <answer> 5 </answer>"),
    ]
    found = [verdict(each, total) for each, total in zip(asked, (85.0, 85.01, 100, 100), strict=True)]
    kept, account = select(asked, found, config(), seed=0)
    assert [each.candidate.question.origin for each in kept] == ["above"]
    assert account["by_domain"]["math"]["above"] == 1


def test_the_best_of_each_query_is_kept_the_first_of_equals() -> None:
    asked = [candidate(question("a"), RIGHT, sample) for sample in range(4)]
    found = [verdict(each, total) for each, total in zip(asked, (90, 95, 95, None), strict=True)]
    kept, account = select(asked, found, config(), seed=0)
    assert [each.candidate.sample for each in kept] == [1]
    assert kept[0].to_dict()["scores"]["total"] == 95
    assert (account["candidates"], account["kept"], account["failed_verdicts"]) == (4, 1, 1)


def test_quotas_keep_the_highest_and_the_account_adds_up() -> None:
    asked = [candidate(question(f"m{number}"), RIGHT) for number in range(6)]
    asked += [candidate(question(f"t{number}", domain="arithmetic"), RIGHT) for number in range(3)]
    scores = (90, 99, 98, 90, 80, 90, 90, 100, 10)
    found = [verdict(each, total) for each, total in zip(asked, scores, strict=True)]
    chosen = config(math=(6, 3), arithmetic=(3, 5))
    kept, account = select(asked, found, chosen, seed=0)
    by_domain: dict[str, list[float | None]] = {}
    for each in kept:
        by_domain.setdefault(each.candidate.question.domain, []).append(each.verdict.total)
    assert by_domain == {"math": [99, 98, 90], "arithmetic": [100, 90]}
    assert account["by_domain"] == {
        "math": {"queries": 6, "candidates": 6, "above": 5, "kept": 3, "quota": 3, "short": 0},
        "arithmetic": {"queries": 3, "candidates": 3, "above": 2, "kept": 2, "quota": 5, "short": 3},
    }
    for key in ("queries", "candidates", "kept"):
        assert account[key] == sum(domain[key] for domain in account["by_domain"].values())
    # Equals at the quota's edge are drawn by the seed, not by their place.
    edge = {select(asked, found, chosen, seed=seed)[0][2].candidate.question.origin for seed in range(20)}
    assert edge == {"m0", "m3", "m5"}
    again = select(asked[::-1], found[::-1], chosen, seed=0)[0]
    assert {each.candidate.id for each in again} == {each.candidate.id for each in kept}


# Sampling


def test_a_pool_that_is_too_small_says_what_there_is() -> None:
    pool = [question(str(number)) for number in range(3)]
    with pytest.raises(DataError, match=r"self_improvement\.pools\.math: asks for 4 queries, but the data holds 3"):
        draw_queries(pool, {"math": PoolConfig(queries=4, quota=1)}, seed=0)
    with pytest.raises(DataError, match=r"domains there are: math"):
        draw_queries(pool, {"detection": PoolConfig(queries=1, quota=1)}, seed=0)
    drawn = draw_queries(pool, {"math": PoolConfig(queries=2, quota=1)}, seed=0)
    assert len({each.id for each in drawn}) == 2


def answered(policy: Any, asked: Sequence[Question], *_: Any, **__: Any) -> list[list[Answered]]:
    """Stands for sampling: the first query is answered rightly, one answer comes twice."""
    texts = [RIGHT, LUCKY, RIGHT, WRONG_GUESS]
    return [
        [
            Answered(question=each, completion=text, truncated=False, grade=grade(each, text))
            for text in (texts if number == 0 else [CLAIMED] * 4)
        ]
        for number, each in enumerate(asked)
    ]


def test_equal_answers_to_a_query_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curr_reft.improve.sample.answer_all", answered)
    policy: Any = None
    found = sample_candidates(
        policy, [question("a"), question("b")], config(), SamplingConfig(), RewardsConfig(), seed=0
    )
    assert [(each.id, each.completion) for each in found] == [
        ("a/open#0", RIGHT), ("a/open#1", LUCKY), ("a/open#3", WRONG_GUESS), ("b/open#0", CLAIMED)
    ]  # fmt: skip


def test_the_files_of_the_phase_and_what_is_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("curr_reft.improve.sample.answer_all", answered)
    loads: list[int] = []

    def load() -> Any:
        loads.append(1)

    def keep(sha256: str) -> tuple[list[Any], dict[str, Any]]:
        pool = [question("a"), question("b")]
        given = config(math=(2, 2))
        return phase.keep_best_answers(load, pool, tmp_path, given, SamplingConfig(), RewardsConfig(), 0, sha256, print)

    examples, account = keep("x")
    assert sum(each.completion == RIGHT for each in examples) == len(examples) == account["kept"] == 1
    assert account["candidates"] == len(read_rows(tmp_path / "candidates.parquet")) == 4
    assert len(read_jsonl(tmp_path / "verdicts.jsonl")) == 4
    (row,) = read_jsonl(tmp_path / "kept.jsonl")
    assert json.dumps(row["completion"]) == json.dumps(RIGHT)
    assert keep("x") == (examples, account)
    assert len(loads) == 1
    # Killed before the account was written, or kept from the answers of other weights: made again.
    (tmp_path / "account.json").unlink()
    assert keep("x") == (examples, account)
    assert keep("y")[1]["weights_sha256"] == "y" == read_json(tmp_path / "account.json")["weights_sha256"]
    assert len(loads) == 3
