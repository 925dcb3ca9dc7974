import json
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.curriculum.config import StageConfig
from curr_reft.curriculum.sampler import QuestionSampler
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


@given(
    weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=3),
    prompts=st.integers(1, 16),
    steps=st.integers(1, 40),
)
def test_the_share_of_every_form_is_met_after_every_prompt(weights: list[float], prompts: int, steps: int) -> None:
    """Replay too is a share: after n prompts a form was asked n * share times, give or take less than one."""
    shares = {form: weight / sum(weights) for form, weight in zip(SETS, weights, strict=False)}
    one = sampler(shares, prompts)
    drawn = [question.form for step in range(steps) for question in one.draw(step)]
    for form, share in shares.items():
        asked = list(accumulate(drawn, lambda count, each, form=form: count + (each == form), initial=0))
        assert max(abs(count - n * share) for n, count in enumerate(asked)) < 1 + 1e-6


@pytest.mark.parametrize("replay", [0.05, 0.3, 0.5, 0.9])
def test_replay_has_its_share_of_a_stage(replay: float) -> None:
    stage = StageConfig(name="open", forms={"open": 1}, steps=60, replay=replay)
    one = sampler(stage.shares(["binary", "choice"]), prompts=12)
    drawn = Counter(question.form for step in range(60) for question in one.draw(step))
    assert abs(drawn["binary"] + drawn["choice"] - replay * 720) < 1
    assert abs(drawn["binary"] - drawn["choice"]) <= 1


# Replacements


@given(data=st.data(), prompts=st.integers(1, 9))
def test_replacements_leave_the_mixture_as_it_was_dealt(data: st.DataObject, prompts: int) -> None:
    """Forms and tasks are those of a sampler that replaces nothing; a replacement is of the same form and task."""
    shares = {"open": 0.5, "binary": 0.3, "choice": 0.2}
    one, other = sampler(shares, prompts), sampler(shares, prompts)
    for step in range(12):
        drawn = one.draw(step)
        assert [(q.form, q.task) for q in drawn] == [(q.form, q.task) for q in other.draw(step)]
        for question in data.draw(st.lists(st.sampled_from(drawn), max_size=2 * prompts)):
            instead = one.replacement(question)
            assert (instead.form, instead.task) == (question.form, question.task)
    assert {
        form: {task: count - one.replaced[form][task] for task, count in tasks.items()}
        for form, tasks in one.asked.items()
    } == other.asked


def test_dealt_or_replaced_a_cell_is_asked_in_epochs() -> None:
    one = sampler({"open": 1.0}, prompts=2)  # one question of each of the two tasks
    asked = []
    for step in range(5):
        drawn = one.draw(step)
        asked += [*drawn, one.replacement(drawn[0])]  # detection is asked twice a step
    of_detection = [q.id for q in asked if q.task == "detection"]
    assert sorted(of_detection[:5]) == sorted(of_detection[5:]) == sorted({*of_detection})
    assert one.replaced == {"open": {"detection": 5, "math": 0}}


def test_replacements_go_on_where_they_were() -> None:
    def walk(one: QuestionSampler, steps: range) -> list[str]:
        drawn = [(q, one.replacement(q)) for step in steps for q in one.draw(step)]
        return [q.id for pair in drawn for q in pair]

    shares = {"open": 0.7, "binary": 0.3}
    expected = walk(sampler(shares), range(6))
    first, second = sampler(shares), sampler(shares)
    assert walk(first, range(3)) == expected[:72]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert walk(second, range(3, 6)) == expected[72:]


# Several questions about one image


@dataclass(frozen=True)
class Picture:
    key: str


def pictured(form: str, images: int = 6, each: int = 2) -> list[Question]:
    """``each`` questions of both tasks about every image, and one about no image."""
    return [
        *(
            replace(question, id=f"{task}/{n}/{part}/{form}", task=task, images=(Picture(f"picture {n}"),))
            for question in questions(form, 1)[:1]
            for task in ("detection", "math")
            for n in range(images)
            for part in range(each)
        ),
        *questions(form, 1),
    ]


def drawing(shares: dict[str, float], prompts: int, each: int, seed: int = 3) -> QuestionSampler:
    sets = {form: pictured(form) for form in ("binary", "choice", "open")}
    return QuestionSampler(sets, shares, prompts, seed=seed, questions_per_image=each)


def of_images(drawn: list[Question]) -> list[int]:
    return sorted(Counter(q.images for q in drawn if q.images).values(), reverse=True)


@pytest.mark.parametrize("each", [1, 2, 3, 4])
def test_a_step_asks_several_questions_about_one_image(each: int) -> None:
    sets = {form: pictured(form, images=40) for form in ("binary", "open")}
    one = QuestionSampler(sets, {"binary": 0.5, "open": 0.5}, 12, seed=3, questions_per_image=each)
    steps = [one.draw(step) for step in range(10)]
    shown = [of_images(drawn) for drawn in steps]
    mean = sum(map(sum, shown)) / sum(map(len, shown))
    assert each - 0.5 < mean < each + 0.3  # two of an image come together by chance too
    assert all(len({q.id for q in drawn}) == 12 for drawn in steps)


@given(
    each=st.integers(1, 5),
    prompts=st.integers(1, 13),
    steps=st.integers(1, 30),
    weights=st.lists(st.floats(0.05, 1), min_size=1, max_size=3),
    seed=st.integers(0, 50),
)
def test_the_mixture_and_the_epochs_stay_what_they_were(
    each: int, prompts: int, steps: int, weights: list[float], seed: int
) -> None:
    """The cells asked are those of a sampler that does not look at images, prompt for prompt; no question of a cell is
    asked twice before all others are."""
    shares = dict(zip(("binary", "choice", "open"), weights, strict=False))
    one, other = drawing(shares, prompts, each, seed), drawing(shares, prompts, 1, seed)
    asked = Counter()
    for step in range(steps):
        drawn = one.draw(step)
        assert [(q.form, q.task) for q in drawn] == [(q.form, q.task) for q in other.draw(step)]
        for question in drawn:
            asked[question.id] += 1
            cell = [q.id for q in one.cells[question.form][question.task]]
            assert asked[question.id] <= min(asked[each] for each in cell) + 1
    assert one.asked == other.asked


def test_what_was_asked_ahead_is_part_of_the_state() -> None:
    def walk(one: QuestionSampler, steps: range) -> list[list[str]]:
        return [[q.id for q in (*drawn, one.replacement(drawn[0]))] for drawn in map(one.draw, steps)]

    shares = {"open": 0.7, "binary": 0.3}
    expected = walk(drawing(shares, 5, 3), range(9))
    first, second = drawing(shares, 5, 3), drawing(shares, 5, 3)
    assert walk(first, range(4)) == expected[:4]
    assert any(places for cells in first.ahead.values() for places in cells.values())  # else this shows nothing
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert walk(second, range(4, 9)) == expected[4:]
