import json
from collections import Counter

from curr_reft.curriculum.sampler import QuestionSampler, stage_shares
from curr_reft.questions.question import Question


def questions(form: str, count: int = 5) -> list[Question]:
    return [
        Question(id=f"{task}/{n}/{form}", origin=f"{task}/{n}", task=task, form=form, prompt="?", truth=True)
        for task in ("detection", "math")
        for n in range(count)
    ]


SETS = {form: questions(form) for form in ("binary", "choice", "open")}


def sampler(shares: dict[str, float], prompts: int = 12) -> QuestionSampler:
    return QuestionSampler(SETS, shares, prompts, seed=3)


def test_shares_are_met_and_tasks_take_turns() -> None:
    drawn = sampler({"open": 0.7, "binary": 0.15, "choice": 0.15}, prompts=20)
    counts = Counter((q.form, q.task) for step in range(10) for q in drawn.draw(step))
    assert counts["open", "detection"] == counts["open", "math"] == 70
    assert abs(counts["binary", "detection"] - counts["binary", "math"]) <= 1
    assert sum(count for (form, _), count in counts.items() if form == "choice") == 30


def test_every_item_once_an_epoch_in_changing_order() -> None:
    drawn = sampler({"binary": 1.0}, prompts=10)
    epochs = [[q.id for q in drawn.draw(step)] for step in range(3)]
    assert all(sorted(epoch) == sorted(q.id for q in SETS["binary"]) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_state_goes_on_where_it_was() -> None:
    shares = {"open": 0.7, "binary": 0.3}
    whole = sampler(shares)
    expected = [[q.id for q in whole.draw(step)] for step in range(6)]
    first = sampler(shares)
    for step in range(3):
        first.draw(step)
    second = sampler(shares)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [[q.id for q in second.draw(step)] for step in range(3, 6)] == expected[3:]


def test_replay_is_spread_over_earlier_forms_only() -> None:
    assert stage_shares({"open": 1}, 0.3, ["binary", "choice"]) == {"open": 0.7, "binary": 0.15, "choice": 0.15}
    assert stage_shares({"binary": 1}, 0.3, []) == {"binary": 1.0}
    assert stage_shares({"open": 2, "binary": 2}, 0.3, ["binary"]) == {"open": 0.5, "binary": 0.5}
