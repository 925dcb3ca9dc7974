"""What measured pass rates do: who is left out, in which order the rest is asked, and that a resume asks the same."""

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curr_reft.curriculum.config import DifficultyConfig
from curr_reft.curriculum.difficulty import (
    PassRate,
    Selection,
    account_lines,
    by_variance,
    easy_to_hard,
    select,
    shuffled,
)
from curr_reft.curriculum.sampler import QuestionSampler
from curr_reft.curriculum.wilson import wilson
from curr_reft.errors import DataError
from curr_reft.questions.question import Question


def rate(passes: int, n: int = 8, name: str = "q", form: str = "binary", task: str = "math") -> PassRate:
    low, high = wilson(passes, n)
    return PassRate(
        question=f"{name}/{form}",
        origin=name,
        task=task,
        form=form,
        n=n,
        passes=passes,
        rate=passes / n,
        low=low,
        high=high,
        accuracy=passes / n,
    )


def asked(passes: list[int], n: int = 8, form: str = "binary", task: str = "math") -> tuple[list[Question], Any]:
    """Questions of a cell, and their rates by id."""
    rates = [rate(each, n, f"{task}{place}", form, task) for place, each in enumerate(passes)]
    questions = [
        Question(id=each.question, origin=each.origin, task=task, form=form, prompt="?", truth=True) for each in rates
    ]
    return questions, {each.question: each for each in rates}


def kept(passes: list[int], n: int = 8, **config: Any) -> list[int]:
    questions, rates = asked(passes, n)
    selection = select({"binary": questions}, rates, DifficultyConfig(samples=n, **config))
    return [selection.rates[question.id].passes for question in selection.questions["binary"]]


def test_always_is_all_samples_and_enough_of_them() -> None:
    assert kept([0, 1, 7, 8]) == [0, 1, 7]  # by default only what is always right goes
    assert kept([0, 1, 7, 8], drop_always_wrong=True) == [1, 7]
    assert kept([0, 8], drop_always_right=False, drop_always_wrong=True) == [8]
    assert kept([0, 8], drop_always_right=False) == [0, 8]
    # 8 of 8 may still be wrong one time in three: at least 0.68. Whoever wants 0.9 needs 35.
    assert kept([34, 35, 0], n=35, sure=0.9, drop_always_wrong=True) == [34]
    # However many samples: what failed once is not always right, though its lower end is above the bound.
    assert rate(63, 64).low > 0.9
    assert kept([63, 64], n=64, sure=0.9) == [63]


def test_samples_that_can_never_be_sure_are_refused_with_the_number_that_can() -> None:
    with pytest.raises(ValidationError, match=r"4 samples can never be sure of always \(sure 0.65\); at least 8 can"):
        DifficultyConfig(samples=4)
    with pytest.raises(ValidationError, match="at least 35 can"):
        DifficultyConfig(samples=34, sure=0.9, drop_always_right=False, drop_always_wrong=True)
    DifficultyConfig(samples=1, drop_always_right=False)


def test_the_account_counts_by_form_and_task() -> None:
    math, rates = asked([0, 3, 8, 8])
    names, more = asked([2, 8], task="classification")
    selection = select({"binary": [*math, *names]}, {**rates, **more}, DifficultyConfig(drop_always_wrong=True))
    assert selection.account == {
        "binary": {
            "math": {"kept": 1, "always_right": 2, "always_wrong": 1},
            "classification": {"kept": 1, "always_right": 1, "always_wrong": 0},
        }
    }
    assert account_lines(selection.account) == [
        "binary math: 1 of 4 kept, 2 always right, 1 always wrong",
        "binary classification: 1 of 2 kept, 1 always right, 0 always wrong",
    ]


def test_a_cell_left_empty_is_an_error_with_counts_and_a_way_out() -> None:
    right, rates = asked([8, 8])
    wrong, more = asked([0, 0, 8], form="open", task="detection")
    fine, rest = asked([3], form="open")
    everything = {**rates, **more, **rest}
    with pytest.raises(DataError) as refused:
        select({"binary": right, "open": [*wrong, *fine]}, everything, DifficultyConfig(drop_always_wrong=True))
    first, second = refused.value.problems
    assert first[0] == second[0] == "difficulty"
    assert "no math question in the form binary is left" in first[1]
    assert "0 of 2 kept, 2 always right, 0 always wrong; set difficulty.drop_always_right: false" in first[1]
    assert "no detection question in the form open is left" in second[1]
    assert "0 of 3 kept, 1 always right, 2 always wrong; set difficulty.drop_always_wrong: false" in second[1]


counts = st.lists(st.integers(0, 8), min_size=1, max_size=60)


@given(counts, st.integers(0, 80), st.integers(0, 99))
def test_easy_to_hard_asks_each_once_and_what_the_stage_meets_in_order(
    passes: list[int], planned: int, seed: int
) -> None:
    rates = [rate(each) for each in passes]
    order = easy_to_hard(rates, planned, random.Random(seed))
    assert sorted(order) == list(range(len(passes)))
    met = [passes[place] for place in order[:planned]]
    assert met == sorted(met, reverse=True)
    # Drawn at random, as without an order: a stage that comes to ten of a thousand meets hard ones too.
    assert set(order[:planned]) == set(shuffled(rates, planned, random.Random(seed))[:planned])


@given(counts, st.integers(0, 99))
def test_variance_gives_each_its_share_to_within_one_draw(passes: list[int], seed: int) -> None:
    rates = [rate(each) for each in passes]
    order = by_variance(rates, 0, random.Random(seed))
    assert len(order) == len(passes)
    drawn = Counter(order)
    total = sum(each.learnable for each in rates)
    for place, each in enumerate(rates):
        assert abs(drawn[place] - len(passes) * each.learnable / total) < 1 + 1e-9


def test_variance_asks_the_undecided_most_and_the_decided_sometimes() -> None:
    assert [round(rate(passes).learnable, 3) for passes in (0, 4, 8)] == [0.09, 0.25, 0.09]
    rates = [rate(0)] * 100 + [rate(4)] * 100 + [rate(8)] * 100
    drawn = Counter(place // 100 for place in by_variance(rates, 0, random.Random(1)))
    assert drawn[1] == pytest.approx(300 * 0.25 / 0.43, abs=2)
    assert drawn[0] == pytest.approx(drawn[2], abs=2)


def selection(order: Any) -> Selection:
    questions: dict[str, list[Question]] = {}
    rates: dict[str, PassRate] = {}
    for form in ("binary", "open"):
        for task in ("detection", "math"):
            own, known = asked([n % 9 for n in range(20)], form=form, task=task)
            questions.setdefault(form, []).extend(own)
            rates.update(known)
    return select(questions, rates, DifficultyConfig(order=order))


@pytest.mark.parametrize("order", ["none", "easy_to_hard", "variance"])
@pytest.mark.parametrize("cut", [1, 4, 9])
def test_a_resumed_sampler_asks_the_same_over_epochs(order: str, cut: int) -> None:
    chosen = selection(order)

    def sampler() -> QuestionSampler:
        shares = {"binary": 0.3, "open": 0.7}
        return QuestionSampler(chosen.questions, shares, 12, seed=5, steps=12, epoch=chosen.epoch)

    whole, first, second = sampler(), sampler(), sampler()
    expected = [[question.id for question in whole.draw(step)] for step in range(12)]
    assert [[question.id for question in first.draw(step)] for step in range(cut)] == expected[:cut]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [[question.id for question in second.draw(step)] for step in range(cut, 12)] == expected[cut:]


def test_a_stage_goes_from_easy_to_hard_in_every_form_and_task() -> None:
    chosen = selection("easy_to_hard")
    sampler = QuestionSampler(chosen.questions, {"binary": 1}, 4, seed=5, steps=5, epoch=chosen.epoch)
    drawn = [question for step in range(5) for question in sampler.draw(step)]
    for task in ("detection", "math"):
        rates = [chosen.rates[question.id].rate for question in drawn if question.task == task]
        assert len(rates) == 10
        assert rates == sorted(rates, reverse=True)
        assert rates[0] > 0.5 > rates[-1]  # a stage that meets half of a cell meets both ends


def test_without_an_order_the_draw_is_that_of_a_run_without_the_section() -> None:
    chosen = selection("none")
    plain = QuestionSampler(chosen.questions, {"binary": 1, "open": 1}, 6, seed=5)
    ordered = QuestionSampler(chosen.questions, {"binary": 1, "open": 1}, 6, seed=5, steps=9, epoch=chosen.epoch)
    assert [plain.draw(step) for step in range(20)] == [ordered.draw(step) for step in range(20)]
