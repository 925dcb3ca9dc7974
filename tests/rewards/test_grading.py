"""Grades: the batch equals single calls, states are no scores, nothing a model writes raises."""

import io
import json
import math
import time
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.errors import DataError
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.rewards.command import grade_lines
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.format import answer_block, format_reward
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import grade, grade_all, total, verdict
from curr_reft.tasks import TASKS
from curr_reft.tasks.config import DetectionConfig, MathConfig


def ask(task: str, form: str, truth: Any, options: tuple[str, ...] = ()) -> Question:
    return Question(id=f"x/{form}", origin="x", task=task, form=form, prompt="", truth=truth, options=options)


def say(answer: str) -> str:
    return f"<think>because</think>\n<answer>{answer}</answer>"


QUESTIONS = [
    ask("detection", "binary", True),
    ask("detection", "choice", frozenset("B")),
    ask("detection", "open", (10.0, 10.0, 50.0, 50.0)),
    ask("classification", "choice", frozenset("AC"), ("dog", "cat", "car", "bus")),
    ask("classification", "open", ("dog", "traffic light")),
    ask("math", "open", "42"),
    ask("math", "open", "2\\sqrt{3}"),
    ask("math", "open", "B"),
]
PIECES = [
    "<think>",
    "</think>",
    "<answer>",
    "</answer>",
    " ",
    "yes",
    "A, C",
    "[10,10,50,50]",
    "dog",
    "42",
    "2\\sqrt{3}",
    "\n",
]
completions = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=9).map("".join)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(QUESTIONS), completions, st.booleans())
def test_no_completion_raises_and_every_part_is_in_range(question: Question, completion: str, truncated: bool) -> None:
    for text in (completion, say(completion)):
        earned = grade(question, text, truncated)
        assert earned.format in (0.0, 1.0)
        assert earned.accuracy is not None
        assert 0.0 <= earned.accuracy <= 1.0
        assert earned.correct is (earned.accuracy == 1.0)
        reward = total(earned)
        assert reward is not None
        assert math.isfinite(reward)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(QUESTIONS), completions, st.booleans()), max_size=12))
def test_a_batch_equals_single_calls_in_order(rows: list[tuple[Question, str, bool]]) -> None:
    assert grade_all(rows) == [grade(*row) for row in rows]


def test_a_batch_with_computer_algebra_equals_single_calls() -> None:
    question = ask("math", "open", "2\\sqrt{3}")
    answers = [
        "\\sqrt{12}",
        "√12",
        "\\sqrt{3}",
        "3.4641016",
        "x",
        "\\frac{6}{\\sqrt{3}}",
        "2\\sqrt{3} = \\sqrt{12}",
        "",
    ]
    rows = [(question, say(answer), False) for answer in answers * 3]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("curr_reft.tasks.math.verify", None)  # the batch has asked for everything beforehand
        batch = grade_all(rows)
    assert batch == [grade(*row) for row in rows]
    assert [earned.accuracy for earned in batch[:8]] == [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.task + "-" + q.form + "-" + FORMS[q.form].write(q))
def test_the_right_answer_as_written_earns_both_parts(question: Question) -> None:
    earned = grade(question, say(FORMS[question.form].write(question)))
    assert earned == Grade(status=Status.OK, format=1.0, accuracy=1.0, correct=True)
    assert total(earned) == 2.0
    assert total(earned, RewardsConfig(format_weight=0.5, accuracy_weight=3)) == 3.5


def test_a_completion_cut_before_its_answer_is_truncated_not_silent() -> None:
    question = QUESTIONS[5]
    cut = "<think>it is <answer>"
    assert grade(question, cut, truncated=True).status is Status.TRUNCATED
    assert grade(question, cut).status is Status.NO_ANSWER
    assert grade(question, cut, truncated=True).accuracy == 0.0
    assert grade(question, say("42"), truncated=True).status is Status.OK, "the answer was complete"
    twice = say("42") + "<answer>42</answer> and"
    assert grade(question, twice, truncated=True).status is Status.NO_ANSWER, "the cut is not what is wrong with it"


def test_a_timeout_has_no_total() -> None:
    config = RewardsConfig(math=MathConfig(timeout=0.5, workers=1))
    question = ask("math", "open", "2\\sqrt{3}")
    hanging, right = grade_all(
        [(question, say("9^{9\\cdot 9^{9}}"), False), (question, say("\\sqrt{12}"), False)], config
    )
    assert (hanging.status, hanging.accuracy, hanging.correct) == (Status.TIMED_OUT, None, None)
    assert "0.5 s" in hanging.reason
    assert total(hanging, config) is None
    assert right.accuracy == 1.0


@pytest.mark.parametrize("returned", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_grader_that_returns_no_score_in_range_has_failed(monkeypatch: pytest.MonkeyPatch, returned: float) -> None:
    monkeypatch.setattr(TASKS["detection"], "score", lambda *_: returned)
    earned = grade(QUESTIONS[2], say("[10,10,50,50]"))
    assert (earned.status, earned.accuracy) == (Status.GRADER_FAILED, None)
    assert repr(returned) in earned.reason


def test_a_grader_that_raises_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(TASKS["detection"], "score", broken)
    earned = grade(QUESTIONS[2], say("[10,10,50,50]"))
    assert (earned.status, earned.accuracy, earned.format) == (Status.GRADER_FAILED, None, 1.0)
    assert earned.reason == "ZeroDivisionError: oh"
    assert total(earned) is None


def test_correct_is_stricter_than_accuracy() -> None:
    choice = grade(QUESTIONS[3], say("A"))
    assert (choice.accuracy, choice.correct) == (0.2, False)
    names = grade(QUESTIONS[4], say("dog"))
    assert (names.accuracy, names.correct) == (0.5, False)
    soft = grade(QUESTIONS[2], say("[10,10,50,30]"), config=RewardsConfig(detection=DetectionConfig(score="iou")))
    assert (soft.accuracy, soft.correct) == (0.5, False)


def test_a_bare_answer_has_a_verdict_of_its_own() -> None:
    assert verdict(QUESTIONS[5], "42").correct is True
    assert verdict(QUESTIONS[5], say("42")).correct is False


@pytest.mark.parametrize(
    ("completion", "task", "form", "reward"),
    [
        ("<think>a</think><answer>b</answer>", "math", "open", 1.0),
        ("\n<think>a</think>\n\n<answer>b</answer> ", "math", "open", 1.0),
        ("<think>a</think><answer>b</answer>", "detection", "binary", 1.0),
        ("<think>a</think><answer>b</answer>", "detection", "open", 0.0),
        ("<think>a</think><answer>[1,2,3,4]</answer>", "detection", "open", 1.0),
        ("<think>a</think><answer>[1.5,2,3,4]</answer>", "detection", "open", 1.0),
        ("<think>a</think><answer></answer>", "math", "open", 0.0),
        ("<think>\n</think><answer>b</answer>", "math", "open", 0.0),
        ("<answer>b</answer><think>a</think>", "math", "open", 0.0),
        ("<think>a</think>x<answer>b</answer>", "math", "open", 0.0),
        ("<think>a</think><answer>b</answer>.", "math", "open", 0.0),
        ("<think>a<think>c</think></think><answer>b</answer>", "math", "open", 0.0),
        ("<THINK>a</THINK><ANSWER>b</ANSWER>", "math", "open", 0.0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", "math", "open", 0.0),
    ],
)
def test_format(completion: str, task: str, form: str, reward: float) -> None:
    assert format_reward(completion, task, form) == reward


def test_an_answer_tried_out_while_thinking_is_none() -> None:
    assert answer_block("<think>a <answer>b</answer>") is None
    assert answer_block("<think>a <answer>b</answer></think>") is None
    assert answer_block("<think>a</think><answer> b </answer>") == " b "
    assert answer_block("<answer>b</answer>") == "b"


@pytest.mark.parametrize(
    "section",
    [
        {"format_weight": -1},
        {"detection": {"threshold": 1.0}},
        {"math": {"timeout": 0}},
        {"math": {"workers": 0}},
        {"detection": {"treshold": 0.5}},
        {"format_weight": 0, "accuracy_weight": 0},
        {"accuracy_weight": float("nan")},
    ],
)
def test_a_section_that_cannot_work_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        RewardsConfig(**section)


HOSTILE_PIECES = [
    "\\aaa",
    "{",
    "}",
    "(",
    "[",
    "<think>",
    "<answer>",
    "A. ",
    "a,",
    "'",
    '{"a":',
    "1 ",
    "1,",
    "^",
    "\\text{",
]
HOSTILE_PIECES += [
    " ",
    "\n",
    "*",
    "$",
    "\\",
    "9/",
    "cm",
    "-",
    "and ",
    "the answer is ",
    "angle ",
    "√(",
    "```",
    "1/",
    "!",
]


@pytest.mark.parametrize("piece", HOSTILE_PIECES)
def test_no_repeated_text_makes_grading_slow(piece: str) -> None:
    """Patterns that backtrack without bound would hang the trainer, where no worker can be killed."""
    for length in (60, 290, 3900):
        for end in ("", "?", "1"):
            answer = (piece * length)[:length] + end
            started = time.monotonic()
            for question in QUESTIONS:
                grade(question, say(answer), config=RewardsConfig(math=MathConfig(timeout=0.5)))
                grade(question, answer)
            assert time.monotonic() - started < 20.0, (piece, length, end)


def test_the_names_of_the_reference_data_are_understood_and_given_back() -> None:
    row = {"task": "classify", "form": "open", "truth": "dog", "completion": "<think>a</think><answer>Dog</answer>"}
    out = io.StringIO()
    grade_lines([json.dumps(row)], out)
    back = json.loads(out.getvalue())
    assert back["task"] == "classify"
    assert (back["format"], back["accuracy"]) == (1.0, 1.0)


@pytest.mark.parametrize("before", [("\ufeff",), ("\ufeff", ""), ("", "\ufeff")])
def test_a_byte_order_mark_before_rows_is_passed_over(before: tuple[str, ...]) -> None:
    """Windows tools begin a file with one, and ``type a b`` leaves one between two files."""
    row = {"task": "math", "form": "open", "truth": "42", "completion": "<think>x</think><answer>42</answer>"}
    out = io.StringIO()
    assert grade_lines([mark + json.dumps(row) for mark in before], out) == len(before)
    assert all(json.loads(line)["accuracy"] == 1.0 for line in out.getvalue().splitlines())


@pytest.mark.parametrize("truth", ["\frac{1}{2}", ["\beta"], "3 \times 4"])
def test_a_truth_of_a_row_that_json_has_eaten_is_refused(truth: Any) -> None:
    task = "math" if isinstance(truth, str) else "classification"
    row = {"task": task, "form": "open", "truth": truth, "completion": "<answer>1</answer>"}
    with pytest.raises(DataError, match=r"<stdin>:1: truth .*a single backslash of \\(frac|beta|times) was read as"):
        grade_lines([json.dumps(row)], io.StringIO())


def test_thinking_that_was_never_opened_earns_no_format_and_its_answer_its_accuracy() -> None:
    """A template that opens <think> leaves it out of the completion; a run takes that opening out of the prompt."""
    row = {"task": "math", "form": "open", "truth": "42", "completion": "so it is</think><answer>42</answer>"}
    out = io.StringIO()
    grade_lines([json.dumps(row)], out)
    graded = json.loads(out.getvalue())
    assert (graded["format"], graded["accuracy"], graded["status"]) == (0.0, 1.0, "ok")
