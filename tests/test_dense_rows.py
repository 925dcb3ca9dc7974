"""Lists of boxes by the user's door: rows and images in, questions of all forms out, each truth worth everything."""

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from curr_reft.data.frame import BoxFrame, resize_rule
from curr_reft.errors import DataError
from curr_reft.evaluate.suites import suite_scores
from curr_reft.policy.answers import Answered
from curr_reft.prepare import Prepared, load_items, prepare
from curr_reft.question_sets import show_questions
from curr_reft.questions.question import Question
from curr_reft.recipe import load_recipe
from curr_reft.rewards.command import grade_lines
from curr_reft.rewards.grading import grade
from curr_reft.tasks import TASKS, TaskOptions

RECIPE = """\
name: dense
data:
  kind: files
  files:
    train: [{path: train.jsonl}]
    validation: [{path: validation.jsonl}]
    test: [{path: test.jsonl}]
questions: {style: full}
curriculum:
  total_steps: 20
  stages:
    - {name: binary, forms: {binary: 1}, steps: 5}
    - {name: choice, forms: {choice: 1}, steps: 5}
    - {name: open, forms: {open: 1}, steps: rest}
evaluation: {models: [base, curr_rl]}
"""
DENSE = TASKS["dense_detection"]
FRAME = BoxFrame("pixels", resize_rule(28, 3136, 401_408))
DOGS = [[10, 20, 110, 140], [200, 30, 330, 150.5], [60, 180, 190, 290]]
CAT = [[250, 200, 390, 290]]


def write_rows(folder: Path, **changes: object) -> Path:
    for number, split in enumerate(("train", "validation", "test")):
        rows = []
        for place in range(4):
            name = f"{split}{place}.png"
            # Shades far apart, as one picture in two splits is a leak.
            Image.effect_mandelbrot((400, 300), (-2.0, -1.5, 1.0 + number, 1.5 + place), 40).convert("RGB").save(
                folder / name
            )
            boxes = [[x1 + place, y1, x2, y2] for x1, y1, x2, y2 in DOGS[: 1 + place % 3]]
            solution = json.dumps([{"bbox_2d": box, "label": "dog"} for box in boxes]) if place else boxes
            row = {
                "problem": f"Where are all the dogs of picture {name}?",
                "solution": f"<answer>{solution}</answer>" if isinstance(solution, str) else solution,
                "task": "dense_detection",
                "image": name,
                "distractors": [CAT],
            }
            rows.append(json.dumps(row | changes))
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Preparing grades every truth of every form by its own grader, and fails if one does not earn everything."""
    recipe = load_recipe(write_rows(tmp_path_factory.mktemp("rows")))
    return prepare(recipe, load_items(recipe), FRAME)


def say(answer: str) -> str:
    return f"<think>I look for dogs</think><answer>{answer}</answer>"


@pytest.mark.parametrize("form", ["binary", "choice", "open"])
def test_rows_become_questions_of_every_form(prepared: Prepared, form: str) -> None:
    assert all(len(prepared.of(split, form)) == 4 for split in ("train", "validation", "test"))
    for question in prepared.of("train", form):
        assert "in pixels of the image as shown" in question.prompt


def test_boxes_are_asked_for_in_the_frame_of_the_model(prepared: Prepared) -> None:
    first, second = prepared.of("train")[:2]
    width, height = FRAME.fit((400, 300))
    assert (width, height) != (400, 300)
    across, down = width / 400, height / 300
    assert first.truth == tuple(
        pytest.approx((x1 * across, y1 * down, x2 * across, y2 * down), abs=0.51) for x1, y1, x2, y2 in DOGS[:1]
    )
    assert len(second.truth) == 2


def test_false_lists_are_found_wrong_by_the_scorer(prepared: Prepared) -> None:
    truths = {question.origin: question.truth for question in prepared.of("train")}
    options = TaskOptions()
    for question in prepared.of("train", "choice"):
        for place, text in enumerate(question.options):
            right = DENSE.correct(DENSE.parse(text), truths[question.origin], options)
            assert right == ("ABCD"[place] in question.truth), question
        assert len(question.truth) == 1


def test_grade_pays_lists_as_it_pays_one_box() -> None:
    row = {"task": "dense_detection", "form": "open", "truth": DOGS[:2]}
    answers = [json.dumps(DOGS[:2]), json.dumps(DOGS[1::-1]), json.dumps(DOGS[:1]), json.dumps(DOGS), "two dogs"]
    out = io.StringIO()
    grade_lines([json.dumps({**row, "completion": say(answer)}) for answer in answers], out)
    graded = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["accuracy"] for row in graded] == [1.0, 1.0, pytest.approx(2 / 3), pytest.approx(0.8), 0.0]
    assert [row["format"] for row in graded] == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert [row["status"] for row in graded] == ["ok"] * 4 + ["unparsable"]


def answered(question: Question, answer: str) -> Answered:
    completion = say(answer)
    return Answered(question=question, completion=completion, truncated=False, grade=grade(question, completion))


def test_evaluation_has_mean_average_precision_for_lists(prepared: Prepared) -> None:
    asked = prepared.of("test")
    scores = suite_scores([answered(q, DENSE.write(q.truth)) for q in asked], 50)["dense_detection"]
    assert (scores["accuracy"], scores["score"], scores["map"], scores["ap50"]) == (1.0, 1.0, 1.0, 1.0)
    halves = [answered(q, DENSE.write(q.truth) if place % 2 else "none") for place, q in enumerate(asked)]
    scores = suite_scores(halves, 50)["dense_detection"]
    assert scores["accuracy"] == 0.5
    assert 0.0 < scores["ap50"] < 1.0
    assert scores["map"] == pytest.approx(scores["ap50"]), "what is found is found exactly"


def test_the_gallery_draws_every_box(tmp_path: Path) -> None:
    recipe = load_recipe(write_rows(tmp_path))
    page = show_questions(recipe, tmp_path / "data.html", frame="pixels").read_text()
    boxes = sum(len(item.truth) for item in load_items(recipe).items)
    assert boxes == 3 * (1 + 2 + 3 + 1)
    assert page.count('class="mark truth"') == 3 * boxes, "in each form"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"solution": [[10, 20, 110, 140], [300, 20, 800, 140]]}, r"box \[300.0, 20.0, 800.0, 140.0\] lies outside"),
        ({"solution": [[10, 20, 110, 140], [50, 50, 50, 60]]}, "box 2 of 2"),
        ({"solution": "<answer>three dogs</answer>"}, "holds no boxes"),
        ({"image": None}, "has a box and no image"),
    ],
)
def test_bad_rows_are_named_with_their_line(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    recipe = load_recipe(write_rows(tmp_path, **changes))
    with pytest.raises(DataError, match=reason) as error:
        load_items(recipe)
    assert "train.jsonl:1" in str(error.value)
