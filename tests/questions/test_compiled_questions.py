"""Question sets: deterministic, balanced, free of leaks; every false claim is wrong by its own grader."""

import json
import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curr_reft.data.frame import BoxFrame, resize_rule
from curr_reft.data.item import Box, Item
from curr_reft.errors import DataError, RecipeError
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.tasks import TASKS, TaskOptions
from curr_reft.tasks.boxes import iou, read_box
from curr_reft.tasks.letters import letter_of

ALL = ("binary", "choice", "open")
OPTIONS = TaskOptions()
GRADED = [name for name in TASKS if name != "judged"]  # which has no truth, and is asked in no test
NAMES = ("dog", "cat", "traffic light", "car", "person", "bus", "tree", "cup")
EQUATIONS = ("8*(4-1)*1=24", "(13-1)*2*1=24", "6/(1-3/4)=24", "(5-1/5)*5=24", "12+9+2+1=24")
MATH_TRUTHS = ("42", "0", "3.5", "2\\sqrt{3}", "\\frac{3}{4}", "17", "-5", "25\\pi", "50%", "x+1", "1000", "1")


@dataclass(frozen=True)
class Blank:
    """A picture without content; its key says which."""

    key: str
    size: tuple[int, int] = (640, 480)

    def open(self) -> Image.Image:
        return Image.new("RGB", self.size)


def make_item(number: int, task: str, split: str = "train", seed: int = 0) -> Item:
    rng = random.Random(f"{number}{task}{seed}")
    images = (Blank(f"{task}{number}", (rng.randint(200, 900), rng.randint(200, 900))),)
    common = {"id": f"{task}-{number}", "task": task, "images": images, "split": split, "source": f"d.jsonl:{number}"}

    def box() -> Box:
        x, y = rng.uniform(0, 120), rng.uniform(0, 120)
        return (x, y, x + rng.uniform(12, 80), y + rng.uniform(12, 80))

    def boxes(least: int) -> tuple[Box, ...]:
        return tuple(box() for _ in range(rng.randint(least, 4)))

    if task == "detection":
        return Item(question="find the dog", truth=box(), distractors=boxes(0), **common)
    if task == "dense_detection":
        return Item(question="find all dogs", truth=boxes(1), distractors=(boxes(1),), **common)
    if task == "classification":
        names = tuple(rng.sample(NAMES, rng.randint(1, 5)))
        return Item(question="list the objects", truth=names, **common)
    if task == "points":
        return Item(question="reach 24", truth=rng.choice(EQUATIONS), **common)
    return Item(question=f"how many are {number}", truth=rng.choice(MATH_TRUTHS), **common)


def make_items(count: int, seed: int = 0) -> list[Item]:
    return [make_item(number, task, seed=seed) for task in GRADED for number in range(count)]


FRAMES = [BoxFrame("pixels", resize_rule(28, 3136, 401_408)), BoxFrame("thousand"), BoxFrame("unit")]


def claim_of(question: Question) -> str:
    found = re.search(r"claim: (.*)\. yes or no\?$", question.prompt)
    assert found, question.prompt
    return found.group(1)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.kind)
def test_claims_and_options_are_what_they_are_said_to_be(frame: BoxFrame) -> None:
    items = make_items(32)
    made, card = compile_questions(items, ALL, seed=3, frame=frame, style="short")
    truths = {question.origin: question for question in made["open"]}
    assert len(made["binary"]) + sum(card.total.skipped.values()) >= len(items)
    for question in made["binary"]:
        score = FORMS["open"].read(claim_of(question), truths[question.origin], OPTIONS)
        if question.task == "classification":  # one true category is a part of the truth, a false one is none of it
            assert (score.accuracy or 0.0) > 0.0 if question.truth else score.accuracy == 0.0, question
        else:
            assert score.correct is question.truth, question
    for question in made["choice"]:
        asked = truths[question.origin]
        assert len(question.options) == len(set(question.options)) == 4
        for place, text in enumerate(question.options):
            score = FORMS["open"].read(text, asked, OPTIONS)
            # A list with one wrong box is no right option, though as an open answer it earns a part.
            right = score.correct if question.task == "dense_detection" else (score.accuracy or 0.0) > 0.0
            assert right is (letter_of(place) in question.truth), question
        assert 1 <= len(question.truth) <= (4 if question.task == "classification" else 1)
        if question.task == "math":
            for first, second in combinations(question.options, 2):
                assert TASKS["math"].score(second, first, OPTIONS) == 0.0, question
        if question.task == "detection":
            boxes = [read_box(text) for text in question.options]
            assert all(iou(a, b) < 0.5 for a, b in combinations(boxes, 2) if a and b), question


def test_false_boxes_are_far_from_the_truth_and_inside_the_image() -> None:
    frame = FRAMES[0]
    made, _ = compile_questions(make_items(80), ("binary", "open"), seed=1, frame=frame, style="short")
    truths = {question.origin: question for question in made["open"]}
    checked = 0
    for question in made["binary"]:
        if question.task != "detection" or question.truth:
            continue
        box, truth = read_box(claim_of(question)), truths[question.origin].truth
        assert box is not None
        assert iou(box, truth) <= 0.3
        assert all(value == round(value) for value in box)
        width, height = frame.fit(question.images[0].size)
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
        checked += 1
    assert checked == sum(q.task == "detection" and not q.truth for q in made["binary"]) >= 39


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 23))
def test_compiling_is_deterministic_and_balanced(seed: int, count: int) -> None:
    # Numbers only, so that no example waits for a worker.
    items = [item if item.task != "math" else replace(item, truth=str(7 * len(item.id))) for item in make_items(count)]
    frame = BoxFrame("thousand")
    made, card = compile_questions(items, ALL, seed=seed, frame=frame, style="short")
    again, _ = compile_questions(items, reversed(ALL), seed=seed, frame=frame, style="short")
    assert made == again
    math = [item for item in items if item.task == "math"]
    alone, _ = compile_questions(math, ["choice"], seed=seed, frame=frame, style="short")
    assert alone["choice"] == [question for question in made["choice"] if question.task == "math"]
    for task in GRADED:
        yes, no = (card.total.decisions.get((task, word), 0) for word in ("yes", "no"))
        assert abs(yes - no) <= 1
        if not TASKS[task].several:
            letters = [card.total.letters.get((task, letter), 0) for letter in "ABCD"]
            assert max(letters) - min(letters) <= 1
    for form, questions in made.items():
        assert [q.origin for q in questions] == [i.id for i in items if f"{i.id}/{form}" in {q.id for q in questions}]


def test_another_seed_asks_other_questions() -> None:
    items = make_items(30)
    first, second = (
        compile_questions(items, ["binary"], seed=s, frame=BoxFrame("unit"), style="short")[0] for s in (1, 2)
    )
    assert [q.truth for q in first["binary"]] != [q.truth for q in second["binary"]]


def test_every_right_answer_as_written_earns_everything() -> None:
    for frame in FRAMES:
        made, _ = compile_questions(make_items(25), ALL, seed=5, frame=frame, style="full")
        for form, questions in made.items():
            for question in questions:
                score = FORMS[form].read(FORMS[form].write(question), question, OPTIONS)
                assert (score.accuracy, score.correct) == (1.0, True), question


def test_prompts_of_the_closed_language() -> None:
    made, _ = compile_questions(make_items(8), ALL, seed=2, frame=BoxFrame("pixels"), style="short")
    for questions in made.values():
        for question in questions:
            pattern = {
                "open": r"[a-z0-9 ]+\.",
                "binary": r"[a-z0-9 ]+\. claim: .+\. yes or no\?",
                "choice": r"[a-z0-9 ]+\. A\. .+ B\. .+ C\. .+ D\. .+\. which letters?\?",
            }[question.form]
            assert re.fullmatch(pattern, question.prompt), question.prompt
            if question.form == "choice":
                assert question.prompt.endswith("letters?") == (question.task == "classification")


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.kind)
def test_full_prompts_name_the_tags_the_answer_and_the_frame(frame: BoxFrame) -> None:
    made, _ = compile_questions(make_items(4), ALL, seed=2, frame=frame, style="full")
    said = {"pixels": "in pixels of the image", "thousand": "from 0 to 1000", "unit": "from 0 to 1 "}[frame.kind]
    for questions in made.values():
        for question in questions:
            assert "<think> and </think>" in question.prompt
            assert "<answer> and </answer>" in question.prompt
            assert (said in question.prompt) == ("detection" in question.task), question.prompt
            assert "{" not in question.prompt.replace('{"bbox_2d": [x1, y1, x2, y2]}', "")


def test_a_question_with_braces_is_text() -> None:
    item = Item(id="a", task="math", question="what is {x} in {0}", truth="3")
    made, _ = compile_questions([item], ["open"], seed=0, frame=BoxFrame("pixels"), style="full")
    assert made["open"][0].prompt.startswith("what is {x} in {0}\n")


def test_the_number_of_options_can_be_set() -> None:
    made, card = compile_questions(make_items(20), ["choice"], seed=0, frame=BoxFrame("thousand"), options=6)
    assert made["choice"]
    assert all(len(q.options) == 6 for q in made["choice"])
    assert {letter for _, letter in card.total.letters} == set("ABCDEF")


def test_classification_has_one_to_four_right_letters() -> None:
    _, card = compile_questions(make_items(120), ["choice"], seed=0, frame=BoxFrame("thousand"))
    counts = {int(n): count for (task, n), count in card.total.right_letters.items() if task == "classification"}
    assert set(counts) == {1, 2, 3, 4}


def test_a_question_that_lists_its_own_options_keeps_them() -> None:
    shown = Item(id="a", task="math", question="How long is AB? A. 3 B. 4 C. 5 D. 6", truth="C")
    hidden = Item(id="b", task="math", question="How long is AB?", truth="C")
    made, card = compile_questions([shown, hidden], ALL, seed=0, frame=BoxFrame("pixels"), style="full")
    assert [(q.origin, q.truth, q.options) for q in made["choice"]] == [("a", frozenset("C"), ())]
    assert sum(card.total.skipped.values()) == 1
    assert "does not list options" in next(iter(card.total.skipped))[2]
    assert [q.truth for q in made["open"]] == ["C", "C"]


def test_what_cannot_be_asked_is_left_out_with_its_reason() -> None:
    items = [
        Item(id="no image", task="detection", question="q1", truth=(1, 2, 3, 4)),
        Item(id="tiny", task="detection", question="q2", truth=(1, 2, 1.1, 2.1), images=(Blank("a"),)),
        Item(id="whole", task="detection", question="q3", truth=(0, 0, 640, 480), images=(Blank("b"),)),
        Item(id="alone", task="classification", question="q4", truth=("dog",), images=(Blank("c"),)),
        Item(id="word", task="math", question="q5", truth="isosceles", images=(Blank("d"),)),
    ]
    made, card = compile_questions(items, ALL, seed=0, frame=BoxFrame("pixels"))
    assert [q.origin for q in made["open"]] == ["whole", "alone", "word"]
    assert made["choice"] == []
    reasons = json.dumps(card.to_dict()["total"]["skipped"])
    for reason in ("needs an image", "too small", "knows no category", "could be verified as wrong"):
        assert reason in reasons


def test_words_and_letters_have_false_claims_too() -> None:
    words = ("isosceles", "scalene", "equilateral", "right", "yes")
    items = [Item(id=w, task="math", question=f"kind of {w}", truth=w) for w in words]
    items.append(Item(id="B", task="math", question="which? A. 1 B. 2", truth="B"))
    made, _ = compile_questions(items, ["binary"], seed=0, frame=BoxFrame("pixels"), style="short")
    claims = {q.origin: (claim_of(q), q.truth) for q in made["binary"]}
    assert set(claims) == {*words, "B"}
    for origin, (claim, truth) in claims.items():
        assert (claim == origin) is truth
    assert claims["yes"][0] in ("yes", "no")


def test_the_card_counts_by_split_and_in_total() -> None:
    items = [
        replace(make_item(n, task, split), id=f"{split}{task}{n}", images=(Blank(f"{split}{task}{n}"),))
        for split, count in (("train", 10), ("test", 4))
        for task in GRADED
        for n in range(count)
    ]
    repeated = replace(items[0], id="again")
    _, card = compile_questions([*items, repeated], ["open"], seed=0, frame=BoxFrame("pixels"))
    shown = json.loads(json.dumps(card.to_dict()))
    assert shown["splits"]["test"]["items"] == dict.fromkeys(GRADED, 4)
    assert shown["splits"]["train"]["duplicates"] == 1
    assert shown["total"]["questions"]["detection"] == {"open": 15}
    assert shown["leaks"] == 0
    sums: Counter[str] = Counter()
    for split in shown["splits"].values():
        sums.update(split["items"])
    assert shown["total"]["items"] == dict(sums)


def test_repeated_ids_unknown_tasks_forms_and_styles_are_refused() -> None:
    item = Item(id="a", task="math", question="q", truth="1")
    with pytest.raises(DataError, match="ids are unique"):
        compile_questions([item, replace(item, question="r")], ALL, seed=0, frame=BoxFrame("pixels"))
    with pytest.raises(DataError, match="task 'sums' is unknown"):
        compile_questions([replace(item, task="sums")], ALL, seed=0, frame=BoxFrame("pixels"))
    with pytest.raises(RecipeError, match="form 'essay' is unknown"):
        compile_questions([item], ["essay"], seed=0, frame=BoxFrame("pixels"))
    with pytest.raises(RecipeError, match="style 'loud' is unknown"):
        compile_questions([item], ALL, seed=0, frame=BoxFrame("pixels"), style="loud")


def test_a_distractor_of_the_data_that_is_right_after_all_is_not_used() -> None:
    given_wrong = ("\\sqrt{12}", "12^{1/2}", "3.4641016", "\\sqrt{13}")
    item = Item(id="a", task="math", question="how long", truth="2\\sqrt{3}", distractors=given_wrong)
    for seed in range(6):
        made, _ = compile_questions([item], ["choice"], seed=seed, frame=BoxFrame("pixels"))
        options = set(made["choice"][0].options)
        assert options & set(given_wrong) == {"\\sqrt{13}"}
        assert "2\\sqrt{3}" in options
