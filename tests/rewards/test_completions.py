"""``curr-reft grade``: what the reference code pays wrongly, rows in and rows out, bad rows."""

import io
import json
from typing import Any

import pytest

from curr_reft.errors import DataError
from curr_reft.rewards.command import grade_lines
from curr_reft.rewards.config import RewardsConfig
from curr_reft.tasks.config import MathConfig

CONFIG = RewardsConfig(math=MathConfig(timeout=3.0))


def graded(rows: list[dict[str, Any]], config: RewardsConfig = CONFIG) -> list[dict[str, Any]]:
    out = io.StringIO()
    assert grade_lines([json.dumps(row) for row in rows], out, config) == len(rows)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def say(answer: str) -> str:
    return f"<think>because</think><answer>{answer}</answer>"


BOX = [10, 10, 50, 50]

# (task, form, completion, truth, accuracy, format): each wrong one is paid by the reference code.
REFERENCE_CASES = [
    ("math", "open", say("17"), "42", 0.0, 1.0),
    ("math", "open", say("banana"), "42", 0.0, 1.0),
    ("math", "open", say(""), "B", 0.0, 0.0),
    ("math", "open", say("√3"), "2√3", 0.0, 1.0),
    ("math", "open", say("A, B, C or D"), "B", 0.0, 1.0),
    ("math", "binary", say("No, that is not true"), "yes", 0.0, 1.0),
    ("classification", "binary", say("yes or no"), "yes", 0.0, 1.0),
    ("detection", "binary", say('yes {"b":[1,2,3,4]}'), "yes", 0.0, 1.0),
    ("detection", "binary", say("yes"), "yes", 1.0, 1.0),
    ("detection", "choice", say("A"), "A", 1.0, 1.0),
    ("classification", "choice", say("B,A"), "A,B", 1.0, 1.0),
    ("classification", "choice", say("A"), "A,B", 0.2, 1.0),
    ("math", "choice", say("A dog is option C"), "C", 0.0, 1.0),
    ("math", "choice", say("A dog is option C"), "A", 0.0, 1.0),
    ("math", "choice", say(""), "F", 0.0, 0.0),
    ("classification", "open", say("['person','dog']"), "person, dog", 1.0, 1.0),
    ("classification", "open", say("traffic light, car"), "light, traffic", 0.0, 1.0),
    ("classification", "open", say("Person."), "person", 1.0, 1.0),
    ("detection", "open", say('[{"bbox_2d":[0,0,5,5]},{"bbox_2d":[10,10,50,50]}]'), BOX, 0.0, 1.0),
    ("detection", "open", say('{"bbox_2d":[10.5,10.25,49.5,48.75]}'), BOX, 1.0, 1.0),
    ("detection", "open", say("the whole image"), BOX, 0.0, 0.0),
    ("math", "open", "<think></think><answer>42</answer>", "42", 1.0, 0.0),
    ("math", "open", say("42") + " I am sure.", "42", 1.0, 0.0),
    ("math", "open", say("42") + "<answer>42</answer>", "42", 0.0, 0.0),
]


@pytest.mark.parametrize(("task", "form", "completion", "truth", "accuracy", "format_part"), REFERENCE_CASES)
def test_what_the_reference_code_pays_wrongly(
    task: str, form: str, completion: str, truth: Any, accuracy: float, format_part: float
) -> None:
    [row] = graded([{"task": task, "form": form, "truth": truth, "completion": completion}])
    assert (row["accuracy"], row["format"]) == (accuracy, format_part)


def test_a_row_comes_back_with_its_other_keys_and_its_grade() -> None:
    row = {"task": "math", "form": "open", "truth": "2", "completion": say("2"), "mine": {"é": [1]}}
    parts = {"format": 1.0, "accuracy": 1.0}
    assert graded([row]) == [{**row, **parts, "status": "ok", "parts": parts, "reward": 2.0}]
    silent = {**row, "completion": "2"}
    nothing = {"format": 0.0, "accuracy": 0.0}
    reason = {"status": "no_answer", "reason": "no single answer block"}
    assert graded([silent]) == [{**silent, **nothing, "parts": nothing, "reward": 0.0, **reason}]


def test_a_score_that_does_not_exist_is_null() -> None:
    row = {"task": "math", "form": "open", "truth": "42", "completion": say("9^{9\\cdot 9^{9}}")}
    [graded_row] = graded([row], RewardsConfig(math=MathConfig(timeout=0.5)))
    assert (graded_row["accuracy"], graded_row["status"]) == (None, "timed_out")


GOOD = {"task": "math", "form": "open", "truth": "42", "completion": ""}

BAD_ROWS = [
    ("{", "not a JSON object"),
    ("[1]", "a row is a JSON object"),
    (json.dumps({k: v for k, v in GOOD.items() if k != "truth"}), "truth is missing"),
    (json.dumps({**GOOD, "task": "sums"}), "task 'sums' is unknown; write one of detection, classification, math"),
    (json.dumps({**GOOD, "form": ["open"]}), "is unknown; write one of binary, choice, open"),
    (json.dumps({**GOOD, "completion": 3}), "completion 3 is no text"),
    (json.dumps({**GOOD, "truth": ""}), "truth '' for math, open"),
    (json.dumps({**GOOD, "truth": "9^9^9^9"}), "tower of powers"),
    (json.dumps({**GOOD, "form": "binary"}), 'write "yes", "no", true or false'),
    (json.dumps({**GOOD, "form": "choice", "truth": "the third"}), "write the right letters"),
    (json.dumps({**GOOD, "form": "choice", "truth": "C", "options": ["1", "2"]}), "there is no option C"),
    (json.dumps({**GOOD, "form": "choice", "truth": "A", "options": "12"}), "options '12'"),
    (json.dumps({**GOOD, "task": "detection", "truth": [1, 2, 1, 4]}), "empty, inverted"),
    (json.dumps({**GOOD, "task": "detection", "truth": [1, 2, 3]}), "four numbers"),
    (json.dumps({**GOOD, "task": "detection", "truth": "[1,2,3,4] [1,2,3,5]"}), "exactly one box"),
    (json.dumps({**GOOD, "task": "classification", "truth": []}), "no category name"),
    (json.dumps({**GOOD, "task": "classification", "truth": [3]}), "3 is no category name"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_ROWS)
def test_a_bad_row_is_refused_with_its_line_and_the_way_out(line: str, reason: str) -> None:
    out = io.StringIO()
    with pytest.raises(DataError) as error:
        grade_lines([json.dumps(GOOD), "", line], out)
    assert error.value.source == "<stdin>:3"
    assert reason in error.value.reason
    assert out.getvalue() == "", "nothing is graded before all rows are checked"


def test_all_bad_rows_are_named_at_once() -> None:
    with pytest.raises(DataError) as error:
        grade_lines([line for line, _ in BAD_ROWS], io.StringIO(), source="rows.jsonl")
    assert [source for source, _ in error.value.problems] == [f"rows.jsonl:{n + 1}" for n in range(len(BAD_ROWS))]
