"""Custom rewards: called as TRL calls them, and whatever they do, the run goes on and the metrics count it."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.errors import RecipeError
from curr_reft.questions.question import Question
from curr_reft.rewards.config import CustomRewardConfig, RewardsConfig
from curr_reft.rewards.custom import Logged, TrainerState
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import Completed, grade_all, total
from curr_reft.rewards.parts import Parts

SOURCE = """\
import asyncio
import numpy as np
import torch

calls = []
behaviour = None

def does(prompts, completions, **columns):
    return behaviour(prompts, completions, **columns)

def seen(prompts, completions, completion_ids, **columns):
    calls.append({"prompts": prompts, "completions": completions, "completion_ids": completion_ids, **columns})
    return [0.5] * len(prompts)

def few(completions, task):
    return [1.0 if its == "math" else None for its in task]

def sized(completions, most, least=0):
    return [float(least <= len(each) <= most) for each in completions]

def get_constant(value=2.0):
    def constant(completions, **columns):
        return [value] * len(completions)
    return constant

class Counter:
    def __init__(self, start=0):
        self.count = start
    def __call__(self, completions, **columns):
        self.count += 1
        return [self.count] * len(completions)

async def slowly(completions, **columns):
    await asyncio.sleep(0.3)
    return [1.0] * len(completions)

async def slowly_wrong(completions, **columns):
    await asyncio.sleep(0.3)
    raise OSError("no answer from the service")

def sees(completions, images):
    return [float(sum(image.size[0] for image in own)) for own in images]

def logs(completions, log_metric, log_extra, trainer_state):
    log_metric("steps left", trainer_state.max_steps - trainer_state.global_step)
    log_metric("steps left", 0)
    log_extra("first letter", [each[0]["content"][:1] for each in completions])
    return [0.0] * len(completions)

def needs(completions, wisdom, **columns):
    return []

def by_place(completions, /):
    return []

nothing = 3
"""

ROWS = [
    Completed(
        Question(id="a/open", origin="a", task="math", form="open", prompt="how many?", truth="3", source="f:1"),
        "<think>x</think><answer>3</answer>",
        token_ids=(7, 8),
    ),
    Completed(
        Question(
            id="b/choice", origin="b", task="detection", form="choice", prompt="which?", truth=frozenset("B"),
            options=("[1,2,3,4]", "[5,6,7,8]"),
        ),
        "no",
        truncated=True,
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("custom") / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def reward(file: Path) -> Callable[..., RewardsConfig]:
    def config(name: str, **keys: Any) -> RewardsConfig:
        return RewardsConfig(custom=(CustomRewardConfig(name="mine", call=f"{file}:{name}", **keys),))

    return config


def add(config: RewardsConfig, logged: Logged | None = None, rows: list[Completed] = ROWS) -> list[Grade]:
    grades = grade_all([row[:3] for row in rows], config)
    return Parts(config).add(grades, rows, TrainerState(global_step=3, max_steps=10), logged)


def module(config: RewardsConfig) -> dict[str, Any]:
    return Parts(config).custom[0].function.__globals__


def test_a_function_is_given_what_trl_gives(reward: Any) -> None:
    config = reward("seen")
    assert [each.parts["mine"] for each in add(config)] == [0.5, 0.5]
    [call] = module(config)["calls"]
    module(config)["calls"].clear()
    assert call["prompts"][0] == [{"role": "user", "content": "how many?"}]
    assert call["completions"][0] == [{"role": "assistant", "content": "<think>x</think><answer>3</answer>"}]
    assert call["completion_ids"] == [[7, 8], None]
    assert call["task"] == ["math", "detection"]
    assert call["form"] == ["open", "choice"]
    assert call["truth"] == ["3", frozenset("B")]
    assert call["solution"] == ["3", "B"]
    assert call["options"] == [[], ["[1,2,3,4]", "[5,6,7,8]"]]
    assert call["id"] == ["a/open", "b/choice"]
    assert call["accuracy"] == [1.0, 0.0]
    assert call["format"] == [1.0, 0.0]
    assert (call["trainer_state"].global_step, call["trainer_state"].max_steps) == (3, 10)
    assert callable(call["log_metric"])
    assert callable(call["log_extra"])
    assert "images" not in call, "decoding costs: only a function that names images gets them"


def test_plain_texts_on_request(reward: Any) -> None:
    config = reward("seen", conversational=False)
    add(config)
    [call] = module(config)["calls"]
    module(config)["calls"].clear()
    assert call["prompts"] == ["how many?", "which?"]
    assert call["completions"] == ["<think>x</think><answer>3</answer>", "no"]


def test_images_are_decoded_for_a_function_that_names_them(reward: Any) -> None:
    from curr_reft.data.shapes import shapes_items

    item = shapes_items(0, "train", {"math": 1})[0]
    question = Question(id="i", origin="i", task="math", form="open", prompt="?", truth="3", images=item.images)
    [found] = add(reward("sees"), rows=[Completed(question, "x")])
    assert found.parts["mine"] == item.images[0].size[0]


def test_a_function_without_columns_gets_what_it_names(reward: Any) -> None:
    found = add(reward("few", weight=3.0))
    assert [each.parts["mine"] for each in found] == [1.0, None]
    config = reward("few", weight=3.0)
    assert [total(each, config) for each in found] == [5.0, 0.0], "None leaves the part out, as in TRL"
    assert all(each.failed == () for each in found)


def test_options_are_keyword_arguments(reward: Any) -> None:
    found = add(reward("sized", options={"most": 2}, conversational=False))
    assert [each.parts["mine"] for each in found] == [0.0, 1.0]


def test_a_factory_and_a_class_make_the_reward_once(reward: Any) -> None:
    assert [each.parts["mine"] for each in add(reward("get_constant", options={"value": 4}))] == [4.0, 4.0]
    config = reward("Counter", options={"start": 5})
    parts = Parts(config)
    grades = grade_all([row[:3] for row in ROWS], config)
    assert [parts.add(grades, ROWS)[0].parts["mine"] for _ in range(3)] == [6.0, 7.0, 8.0]


def test_async_functions_wait_side_by_side_even_inside_a_running_loop(file: Path) -> None:
    config = RewardsConfig(
        custom=tuple(
            CustomRewardConfig(name=f"r{place}", call=f"{file}:{name}")
            for place, name in enumerate(["slowly", "slowly_wrong", "slowly"])
        )
    )
    started = time.monotonic()
    found = add(config)[0]
    assert time.monotonic() - started < 0.8, "three of 0.3 s one after the other would take 0.9 s"
    assert [found.parts[name] for name in ("r0", "r1", "r2")] == [1.0, None, 1.0]
    assert found.failed == ("r1",)

    async def notebook() -> list[Grade]:
        return add(config)

    assert asyncio.run(notebook())[0].parts["r0"] == 1.0


def test_what_a_function_logs_is_kept(reward: Any) -> None:
    logged = Logged(count=2)
    add(reward("logs"), logged)
    assert logged.metrics == {"steps left": [7.0, 0.0]}
    assert logged.extra == {"first letter": ["<", "n"]}


def raises(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("oh")


FAILURES = {
    "raises": (raises, [True, True], "raised ZeroDivisionError: oh"),
    "too few": (lambda *_, **__: [1.0], [True, True], "wrong number of values: 1 for 2"),
    "none at all": (lambda *_, **__: None, [True, True], "NoneType"),
    "one number": (lambda *_, **__: 3.0, [True, True], "float"),
    "nan": (lambda *_, **__: [1.0, float("nan")], [False, True], "not finite: nan"),
    "inf": (lambda *_, **__: [-float("inf"), 1], [True, False], "not finite: -inf"),
    "text": (lambda *_, **__: ["1.0", 1.0], [True, False], "returned text: '1.0'"),
    "a list": (lambda *_, **__: [[1.0], 1.0], [True, False], "no number: [1.0]"),
    "a huge integer": (lambda *_, **__: [10**400, 1.0], [True, False], "no number"),
    "a tensor of two": (lambda *_, **__: [torch.ones(2), 1.0], [True, False], "no number"),
    "a text": (lambda *_, **__: "ab", [True, True], "returned text"),
    "log_extra of a wrong length": (
        lambda *_, log_extra, **__: log_extra("x", [1, 2, 3]),
        [True, True],
        "log_extra('x')",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_function_that_breaks_down_costs_its_completions_their_score(
    reward: Any, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    behaviour, broken, reason = FAILURES[name]
    config = reward("does")
    module(config)["behaviour"] = behaviour
    grades = grade_all([row[:3] for row in ROWS], config)
    parts = Parts(config)
    with caplog.at_level(logging.WARNING, logger="curr_reft"):
        found = parts.add(grades, ROWS)
        for _ in range(5):
            assert parts.add(grades, ROWS) == found
    for grade, before, fails in zip(found, grades, broken, strict=True):
        assert (grade.status is Status.GRADER_FAILED) is fails
        assert (total(grade, config) is None) is fails
        assert grade.failed == (("mine",) if fails else ())
        assert (grade.accuracy, grade.correct) == (before.accuracy, before.correct), "the outcome is known all the same"
        if fails:
            assert grade.parts["mine"] is None
            assert grade.reason.startswith("reward mine ")
            assert reason in grade.reason
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, "the log says it once, the metrics count"
    assert "reward mine (" in told[0]
    assert "mine.py:does" in told[0]


def test_numbers_of_any_kind_are_numbers(reward: Any) -> None:
    import numpy as np

    config = reward("does")
    for returned in ([1, True], np.array([1.0, 1.0]), torch.ones(2), (np.float32(1), torch.tensor(1))):
        module(config)["behaviour"] = lambda *_, returned=returned, **__: returned
        assert [each.parts["mine"] for each in add(config)] == [1.0, 1.0]


def test_what_is_only_logged_costs_nothing_when_it_breaks_down(reward: Any) -> None:
    config = reward("does", weight=0.0)
    module(config)["behaviour"] = raises
    found = add(config)[0]
    assert (found.status, found.failed, total(found, config)) == (Status.OK, ("mine",), 2.0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.floats() | st.integers() | st.text(max_size=3) | st.booleans(), max_size=4))
def test_nothing_that_is_returned_raises(file: Path, returned: list[Any]) -> None:
    config = RewardsConfig(custom=(CustomRewardConfig(name="mine", call=f"{file}:does"),))
    module(config)["behaviour"] = lambda *_, **__: returned
    for grade in add(config):
        value = grade.parts["mine"]
        assert value is None or abs(value) < float("inf")
        assert json.dumps(grade.parts, allow_nan=False)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("nothing", {}, "is no function but of type int; name a function (prompts, completions, **columns)"),
        ("needs", {}, "its parameter wisdom is given by no one. Set it under options"),
        ("needs", {"task": 1}, "options.task is a name of what every reward is given"),
        ("sized", {"most": 1, "wisdom": 2}, "options.wisdom is no parameter of it; it takes completions, most, least"),
        ("sized", {}, "its parameter most is given by no one"),
        ("by_place", {}, "its parameter completions takes no keyword"),
        ("get_constant", {"size": 2}, "options.size is no parameter of it; it takes value"),
        ("Counter", {"begin": 2}, "options.begin is no parameter"),
        ("Path", {}, "has no Path"),
    ],
)
def test_what_cannot_be_called_is_refused_when_it_is_loaded(
    reward: Any, name: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError) as error:
        Parts(reward(name, options=options))
    assert str(error.value).startswith("rewards.custom.0.call = ")
    assert told in str(error.value)
