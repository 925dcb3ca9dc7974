"""What the judge of rules prefers, and what every judge must keep to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from judged_rows import CLAIMED, LUCKY, RIGHT, WRONG_GUESS, candidate, config, question, verdict

from curr_reft.errors import JudgeError
from curr_reft.improve import judges
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges import judge_all
from curr_reft.improve.judges.rules import RulesJudge
from curr_reft.improve.records import Candidate, Verdict
from curr_reft.improve.select import select
from curr_reft.rewards.grade import Grade, Status

WORKPLACE = judges.Workplace(cache=Path("not used by rules"), say=print)
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
    selected = select([failed], [found], config(threshold=0), seed=0)
    assert selected.kept == []
    assert selected.account["failed_verdicts"] == 1
    assert selected.fates == {"a/open#0": "no_verdict"}


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
