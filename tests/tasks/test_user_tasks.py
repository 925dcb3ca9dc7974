"""Tasks of a recipe's own: checked when they are named, gone with their recipe, verified in what they call wrong."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.data.frame import BoxFrame
from curr_reft.data.item import Item
from curr_reft.errors import RecipeError
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.rewards.grade import Status
from curr_reft.rewards.grading import grade, grade_all
from curr_reft.tasks import TASKS
from curr_reft.tasks.base import Pool, TaskOptions
from curr_reft.tasks.user import use_tasks

EXAMPLE = Path(__file__).parents[2] / "examples" / "tasks.py"
BUILT_IN = tuple(TASKS)

BASE = """\
from curr_reft.tasks.simple import SimpleTask

class Own(SimpleTask):
    name = "own"
    def parse(self, text):
        return text.strip() or None
    def score(self, answer, truth):
        return float(answer == truth)
    def false_claim(self, truth, rng):
        return truth + "!"
    def distractors(self, truth, rng, n):
        return [truth + mark for mark in "!?.,"[:n]]
"""


@pytest.fixture(autouse=True)
def _built_in_tasks_afterwards() -> Iterator[None]:
    yield
    use_tasks(())
    assert tuple(TASKS) == BUILT_IN


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "own.py"
    path.write_text(BASE)
    return path


def ask(form: str, truth: object, options: tuple[str, ...] = (), task: str = "rough_count") -> Question:
    return Question(id="x", origin="x", task=task, form=form, prompt="", truth=truth, options=options)


def say(answer: str) -> str:
    return f"<think>because</think><answer>{answer}</answer>"


def test_the_example_in_all_forms() -> None:
    use_tasks([f"{EXAMPLE}:RoughCount"])
    items = [
        Item(id=str(n), task="rough_count", question="how many?", truth=str(n), source=f"rows:{n}")
        for n in range(40, 80)
    ]
    made, card = compile_questions(items, FORMS, seed=3, frame=BoxFrame("pixels"))
    task = TASKS["rough_count"]
    assert [len(made[form]) for form in ("binary", "choice", "open")] == [40, 40, 40]
    assert sum(question.truth for question in made["binary"]) == 20
    for question in itertools.chain(*made.values()):
        written = say(FORMS[question.form].write(question))
        found = grade(question, written)
        assert (found.status, found.accuracy, found.format) == (Status.OK, 1.0, 1.0)
    for question in made["choice"]:
        (right,) = question.truth
        truth = task.parse(str(int(question.origin)))
        for place, text in enumerate(question.options):
            earned = task.score(task.parse(text), str(truth), TaskOptions())
            assert (earned == 1.0) is ("ABCD"[place] == right)
            assert earned in (1.0, 0.0), "a count within a tenth is no honest wrong option"
        assert len(set(question.options)) == 4
    assert card.total.items == {"rough_count": 40}


@pytest.mark.parametrize(
    ("answer", "accuracy", "correct"),
    [
        ("50", 1.0, True), ("about 50.", 1.0, True), ("~50", 1.0, True), ("52", 0.4, False), ("60", 0.0, False),
        ("50 or 60", 0.0, False), ("there are 50 people", 0.0, False), ("", 0.0, False), ("-50", 0.0, False),
    ],
)  # fmt: skip
def test_the_example_open(answer: str, accuracy: float, correct: bool) -> None:
    use_tasks([f"{EXAMPLE}:RoughCount"])
    found = grade(ask("open", "50"), say(answer))
    assert (found.accuracy, found.correct) == (accuracy, correct)


@given(st.integers(0, 99_999), st.integers(0, 10_000), st.integers(1, 5), st.booleans())
def test_false_claims_of_the_example_are_wrong_and_deterministic(truth: int, seed: int, n: int, apart: bool) -> None:
    use_tasks([f"{EXAMPLE}:RoughCount"])
    task = TASKS["rough_count"]
    item = Item(id="i", task="rough_count", question="?", truth=str(truth))
    claims = task.false_claims(item, Pool(), random.Random(seed), n, apart)
    assert claims == task.false_claims(item, Pool(), random.Random(seed), n, apart)
    assert len(claims) <= n
    for claim in claims:
        assert task.score(task.parse(str(claim)), str(truth), TaskOptions()) < 0.1
    if apart:
        for one, other in itertools.combinations(claims, 2):
            assert task.score(task.parse(str(one)), other, TaskOptions()) < 0.1


def test_distractors_of_the_row_come_first_and_are_verified_too() -> None:
    use_tasks([f"{EXAMPLE}:RoughCount"])
    item = Item(id="i", task="rough_count", question="?", truth="50", distractors=("70", "51", "90"))
    claims = TASKS["rough_count"].false_claims(item, Pool(), random.Random(0), 3, apart=True)
    assert set(claims[:2]) == {"70", "90"}
    assert len(claims) == 3
    assert "51" not in claims


def test_a_recipe_has_its_own_tasks_and_no_other_ones(own: Path) -> None:
    use_tasks([f"{own}:Own"])
    assert (*BUILT_IN, "own") == tuple(TASKS)
    use_tasks([f"{EXAMPLE}:RoughCount"])
    assert (*BUILT_IN, "rough_count") == tuple(TASKS)
    use_tasks([f"{EXAMPLE}:RoughCount"])
    use_tasks(())
    assert tuple(TASKS) == BUILT_IN


def test_a_recipe_that_is_refused_leaves_the_tasks_as_they_were(own: Path) -> None:
    use_tasks([f"{EXAMPLE}:RoughCount"])
    with pytest.raises(RecipeError):
        use_tasks([f"{own}:Own", f"{own}:Nothing"])
    assert (*BUILT_IN, "rough_count") == tuple(TASKS)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("class Own(SimpleTask)", "class Own", "lacks absent, several"),
        ("def distractors", "def distracters", "lacks distractors; a task inherits from"),
        ('name = "own"', "", "its name is None"),
        ('name = "own"', 'name = "My Task"', "its name is 'My Task'"),
        ('name = "own"', 'name = "mean"', "its name is 'mean'"),
        ('name = "own"', 'name = "math"', "there is a task 'math' already"),
        ('name = "own"', 'name = "counting"', "counting is the reference data's name for math"),
        ("def score(self, answer, truth)", "def score(self, answer)", "score takes (self, answer, truth)"),
        ("def false_claim(self, truth, rng)", "def false_claim(self)", "false_claim takes (self, truth, rng)"),
        ('name = "own"', 'name = "own"\n    def __init__(self, x): pass', "cannot be made without arguments"),
        ("class Own(SimpleTask):", "def Own():\n  return 3\nclass Other(SimpleTask):", "is no class"),
    ],
)
def test_a_class_that_cannot_be_a_task_is_refused(own: Path, old: str, new: str, told: str) -> None:
    own.write_text(BASE.replace(old, new))
    with pytest.raises(RecipeError) as error:
        use_tasks([f"{own}:Own"])
    assert str(error.value).startswith(f"tasks.0 = {own}:Own")
    assert told in str(error.value)
    assert tuple(TASKS) == BUILT_IN


def test_a_name_twice_is_refused(own: Path) -> None:
    with pytest.raises(RecipeError, match=r"tasks\.1 = .*there is a task 'own' already"):
        use_tasks([f"{own}:Own", f"{own}:Own"])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return text.strip() or None", "return None", "cannot be read by parse"),
        ("return float(answer == truth)", "return 0.9", "earns 0.9 by score when it is the answer, and must earn 1"),
        ("return float(answer == truth)", "return 1 / 0", "the task's class raised ZeroDivisionError"),
        ("return text.strip() or None", "raise ValueError('no')", "no"),
    ],
)
def test_a_truth_that_could_never_be_paid_is_refused(own: Path, old: str, new: str, told: str) -> None:
    own.write_text(BASE.replace(old, new))
    use_tasks([f"{own}:Own"])
    with pytest.raises(ValueError, match=told):
        TASKS["own"].read_truth("x")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return text.strip() or None", "return text[99]"),
        ("return float(answer == truth)", "raise KeyError('x')"),
        ("return float(answer == truth)", "return float('nan')"),
        ("return float(answer == truth)", "return 7"),
        ("return float(answer == truth)", "return 'right'"),
    ],
    ids=["parse raises", "score raises", "nan", "out of range", "text"],
)
def test_a_grader_that_breaks_down_is_a_state_and_ends_nothing(own: Path, old: str, new: str) -> None:
    own.write_text(BASE.replace(old, new))
    use_tasks([f"{own}:Own"])
    rows = [(ask("open", "3", task="own"), say("3"), False), (ask("open", "42", task="math"), say("42"), False)]
    found = grade_all(rows)
    assert [each.status for each in found] == [Status.GRADER_FAILED, Status.OK]
    assert (found[0].accuracy, found[0].correct) == (None, None)
    assert found == [grade(*row) for row in rows]


def test_what_the_class_asks_of_the_form_is_asked(own: Path) -> None:
    own.write_text(BASE + "    def well_formed(self, text):\n        return text.isupper()\n")
    use_tasks([f"{own}:Own"])
    assert grade(ask("open", "x", task="own"), say("x")).format == 0.0
    assert grade(ask("open", "X", task="own"), say("X")).format == 1.0
    own.write_text(BASE + "    def well_formed(self, text):\n        return text[99]\n")
    use_tasks([f"{own}:Own"])
    assert grade(ask("open", "x", task="own"), say("x")).status is Status.GRADER_FAILED


@pytest.mark.parametrize("method", ["false_claim", "distractors"])
def test_a_class_that_breaks_down_while_questions_are_made_is_named(own: Path, method: str) -> None:
    lines = BASE.splitlines()
    place = next(n for n, line in enumerate(lines) if f"def {method}" in line)
    lines[place + 1] = "        raise KeyError('oh')"
    own.write_text("\n".join(lines))
    use_tasks([f"{own}:Own"])
    item = Item(id="i", task="own", question="?", truth="x")
    with pytest.raises(RecipeError, match=rf"task own: Own\.{method} raised KeyError: 'oh'; correct the class"):
        TASKS["own"].false_claims(item, Pool(), random.Random(0), 1, apart=method == "distractors")


def test_a_class_without_false_claims_is_asked_open_only(own: Path) -> None:
    own.write_text(BASE.replace('return truth + "!"', "return None").replace('"!?.,"', '""'))
    use_tasks([f"{own}:Own"])
    items = [Item(id=str(n), task="own", question="?", truth=str(n)) for n in range(3)]
    made, card = compile_questions(items, FORMS, seed=0, frame=BoxFrame("pixels"))
    assert [len(made[form]) for form in ("binary", "choice", "open")] == [0, 0, 3]
    assert card.total.skipped
