"""Properties of grading over all tasks and forms: what is written is read back, the truth earns 1, nothing raises, and
no input takes long."""

import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.rewards.format import answer_block, format_reward
from curr_reft.rewards.grading import grade
from curr_reft.tasks import TASKS, TaskOptions
from curr_reft.tasks.boxes import read_box, read_boxes
from curr_reft.tasks.decisions import read_decision
from curr_reft.tasks.expression import clean, compare, is_copied, to_latex
from curr_reft.tasks.letters import read_letters
from curr_reft.tasks.names import read_names, resolve
from curr_reft.tasks.quantities import plain_number, split_unit

OPTIONS = TaskOptions()
SHOWN = ("red circle", "blue square", "4.5 cm", "[10,10,50,50]")

coordinates = st.integers(0, 2000).map(float) | st.floats(0, 2000, allow_subnormal=False).map(
    lambda value: round(value, 3)
)
boxes = st.tuples(coordinates, coordinates, coordinates, coordinates).filter(lambda b: b[0] < b[2] and b[1] < b[3])
words = st.sampled_from(
    ["dog", "traffic light", "salt and pepper shaker", "café", "t shirt", "3d printer", "wine glass"]
)
values = (
    st.integers(-(10**12), 10**12).map(str)
    | st.decimals(-10000, 10000, places=3).map(str)
    | st.tuples(st.integers(-99, 99), st.integers(1, 99)).map(lambda f: f"{f[0]}/{f[1]}")
    | st.tuples(st.integers(2, 99), st.sampled_from(["\\sqrt{3}", "\\pi", "%", " cm", "^\\circ", "x+1"])).map(
        lambda v: f"{v[0]}{v[1]}"
    )
    | st.sampled_from(["A", "B", "C", "isosceles", "yes", "AB", "(0, 1]", "\\{1, 2\\}", "x=3", "10^{-3}", "(3, 4)"])
)
truths: dict[str, st.SearchStrategy[Any]] = {
    "detection": boxes,
    "dense_detection": st.lists(boxes, min_size=1, max_size=5, unique=True).map(tuple),
    "classification": st.lists(words, min_size=1, max_size=5, unique=True).map(tuple),
    "math": values,
    "points": st.sampled_from(
        ["8 / (3 - 8 / 3) = 24", "5 * 5 - 10 / 10 = 24", "(12 + 13 - 1) * 1 = 24", "((2 + 4) * 6) = 36", "9 - 2 = 7"]
    ),
}
assert set(truths) == set(TASKS) - {"judged"}  # which has no truth
open_questions = st.sampled_from(sorted(truths)).flatmap(
    lambda task: truths[task].map(lambda truth: question(task, "open", TASKS[task].read_truth(truth)))
)
letters = st.sets(st.sampled_from("ABCD"), min_size=1).map(frozenset)
closed_questions = st.tuples(st.sampled_from(sorted(truths)), letters | st.booleans()).map(
    lambda drawn: question(drawn[0], "binary" if isinstance(drawn[1], bool) else "choice", drawn[1])
)
questions = open_questions | closed_questions
spaces = st.sampled_from(["", " ", "\n", "\t ", "  \n "])
# What parsers are made to stumble over: brackets, digits, tags, separators, LaTeX, and what looks like something else.
SHARP = r"""<think> </think> <answer> </answer> [ ] { } ( ) \boxed{ \text{ \frac $ $$ ``` ' " , ; : . - − + = ^ _ % ° √
    \ | / * ** 0 1 42 1e9 NaN Infinity A B yes no true dog "bbox_2d": x1 ４ С é 🙂"""
PIECES = [*SHARP.split(), "```json\n", " and ", " or ", "not ", "option ", " ", "\n", "\u200b", "\x00", "\ud800"]
adversarial = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def question(task: str, form: str, truth: Any) -> Question:
    options = SHOWN if form == "choice" else ()
    return Question(id="q", origin="q", task=task, form=form, prompt="", truth=truth, options=options, source="test")


def say(answer: str, before: str = "", between: str = "\n", after: str = "") -> str:
    return f"{before}<think>because</think>{between}<answer>{answer}</answer>{after}"


def written(asked: Question) -> str:
    return FORMS[asked.form].write(asked)


@given(open_questions)
def test_what_a_task_writes_it_reads_back(asked: Question) -> None:
    task = TASKS[asked.task]
    assert task.parse(task.write(asked.truth)) == asked.truth


@settings(deadline=None)
@given(questions, spaces, spaces, spaces, spaces)
def test_the_truth_earns_1_whatever_the_white_space(asked: Question, a: str, b: str, c: str, d: str) -> None:
    earned = grade(asked, say(f"{a}{written(asked)}{b}", before=c, between=d, after=a))
    assert (earned.accuracy, earned.correct, earned.format) == (1.0, True, 1.0)


@given(closed_questions, st.randoms(use_true_random=False))
def test_order_and_case_of_letters_and_decisions_do_not_matter(asked: Question, rng: random.Random) -> None:
    parts = written(asked).split(", ")
    rng.shuffle(parts)
    for answer in (", ".join(parts), " ".join(parts).lower(), " and ".join(parts).upper()):
        assert grade(asked, say(answer)).accuracy == 1.0


@given(truths["classification"], st.lists(words, max_size=4), st.randoms(use_true_random=False))
def test_order_and_case_of_names_do_not_matter(truth: tuple[str, ...], more: list[str], rng: random.Random) -> None:
    asked = question("classification", "open", TASKS["classification"].read_truth(truth))
    names = [*truth[: rng.randint(1, len(truth))], *more]
    first = grade(asked, say(", ".join(names))).accuracy
    rng.shuffle(names)
    for answer in ("; ".join(names).upper(), "\n".join(f"- {name.title()}" for name in names), " and ".join(names)):
        assert grade(asked, say(answer)).accuracy == pytest.approx(first)


@given(truths["dense_detection"], st.randoms(use_true_random=False))
def test_order_of_boxes_does_not_matter(truth: Any, rng: random.Random) -> None:
    asked = question("dense_detection", "open", truth)
    given_boxes = list(truth)
    rng.shuffle(given_boxes)
    assert grade(asked, say(TASKS["dense_detection"].write(tuple(given_boxes)))).accuracy == 1.0


@given(st.text(max_size=200) | adversarial)
def test_no_text_makes_a_reader_raise(text: str) -> None:
    """The readers alone: what they say is checked in their own tests."""
    for read in (
        read_box,
        read_boxes,
        read_names,
        read_letters,
        read_decision,
        clean,
        to_latex,
        plain_number,
        split_unit,
    ):
        read(text)  # type: ignore[operator]
    read_letters(text, SHOWN)
    resolve(read_names(text) or (), {"salt and pepper shaker"})
    compare("2\\sqrt{3}", text)
    is_copied("42", text, text)
    answer_block(text)
    for task in TASKS.values():
        task.parse(text)
        task.well_formed(text)


@settings(deadline=None)
@given(closed_questions | open_questions.filter(lambda asked: asked.task != "math"), st.text(max_size=80) | adversarial)
def test_any_answer_is_graded(asked: Question, text: str) -> None:
    for completion in (text, say(text)):
        earned = grade(asked, completion)
        assert earned.status != "grader_failed", earned.reason
        assert earned.accuracy is not None
        assert 0.0 <= earned.accuracy <= 1.0
        assert earned.format in (0.0, 1.0)


UNITS = [
    "[", "{", "(", "1,", "1, 1, 1, 1 ", "$", "$$", "`", "```", "```\n", "'", "\"", "\\boxed{", "\\text{", "**", "-",
    "^", " ", "<think>", "</think>", "<answer>", "<think></think>", "not ", "and ", "or ", "A", "A ", "A. ", "(A) ",
    "option ", "=", "x=", "√", "√(", "\\frac{1}{2}", "9^", "1 ", "1/", "dog, ", "- ", "[1,1,2,2],", "{\"bbox_2d\":",
    "answer ", "is correct ", "\n", "!",
]  # fmt: skip
LONG, SECONDS = 100_000, 1.0  # characters; a hundredth would do, a quadratic reader needs minutes


@pytest.mark.parametrize("unit", UNITS)
def test_reading_takes_no_longer_than_the_text_is(unit: str) -> None:
    for length in (300, 2000, 4000, 30_000, LONG):
        repeated = (unit * (length // len(unit) + 1))[: length - 8]
        for text in (repeated, f"1{repeated}x", f"A. {repeated}", f"dog {repeated}`"):
            started = time.process_time()
            for task in TASKS.values():
                task.parse(text)
                task.well_formed(text)
            read_letters(text, SHOWN)
            read_decision(text)
            for completion in (text, say(text), say("42", before=text), f"<think>{text}</think><answer>42</answer>"):
                answer_block(completion)
                format_reward(completion, "math", "open")
            if length <= 300:
                compare("2\\sqrt{3}", text)
                is_copied("42", text, text * 10)
            assert time.process_time() - started < SECONDS, (unit, length)
