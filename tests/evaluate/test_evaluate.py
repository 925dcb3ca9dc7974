"""Scores in the shape of the summary, the chance level of the profile, predictions in pixels of the original image."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curr_reft.data.frame import BoxFrame, resize_rule
from curr_reft.errors import DamagedError
from curr_reft.evaluate.config import EvaluationConfig
from curr_reft.evaluate.predictions import prediction_rows, save_images
from curr_reft.evaluate.profile import chance_level, profile, stages_at_chance, with_plan
from curr_reft.evaluate.suites import suite_scores, validate
from curr_reft.evaluate.summary import stage_summary, summarise, table
from curr_reft.evaluate.variants import evaluate_variant, first_of_each_task
from curr_reft.policy.answers import Answered
from curr_reft.policy.config import SamplingConfig
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Grade, Status
from curr_reft.rewards.grading import grade

REWARDS = RewardsConfig()


@dataclass(frozen=True)
class Drawn:
    """An image source of one colour."""

    key: str
    size: tuple[int, int]

    def open(self) -> Image.Image:
        return Image.new("RGB", self.size, "red")


def question(name: str, task: str = "math", form: str = "open", truth: Any = "5", **more: Any) -> Question:
    return Question(id=f"{name}/{form}", origin=name, task=task, form=form, prompt="?", truth=truth, **more)


def wrap(answer: str) -> str:
    return f"<think> so </think> <answer> {answer} </answer>"


def answer(asked: Question, text: str) -> Answered:
    soft = REWARDS.for_evaluation()
    return Answered(question=asked, completion=text, truncated=False, grade=grade(asked, text, config=soft))


BOX = question("box", "detection", truth=(0.0, 0.0, 10.0, 10.0), images=(Drawn("d", (84, 84)),))
NAMES = question("names", "classification", truth=("cat", "dog"))


def test_strict_accuracy_and_graded_score_by_task() -> None:
    failed = Answered(
        question=question("e"),
        completion="",
        truncated=False,
        grade=Grade(status=Status.TIMED_OUT, format=1.0, accuracy=None),
    )
    scores = suite_scores(
        [
            answer(BOX, wrap('{"bbox_2d":[0,0,10,6]}')),  # IoU 0.6: right
            answer(BOX, wrap('{"bbox_2d":[0,0,10,4]}')),  # IoU 0.4: not
            answer(NAMES, wrap("cat")),  # half of the set
            answer(question("m"), wrap("5")),
            answer(question("m"), wrap("6")),
            answer(question("m"), "5"),  # no answer block
            failed,  # no score counts as not right
        ],
        resamples=200,
    )
    assert list(scores) == ["detection", "classification", "math", "mean"]
    assert scores["detection"]["accuracy"] == 0.5
    assert scores["detection"]["score"] == pytest.approx(0.5)
    assert (scores["classification"]["accuracy"], scores["classification"]["score"]) == (0.0, 0.5)
    assert (scores["math"]["accuracy"], scores["math"]["score"], scores["math"]["n"]) == (0.25, 0.25, 4)
    assert scores["mean"]["score"] == pytest.approx((0.5 + 0.5 + 0.25) / 3)  # of the tasks, not of the items
    assert scores["mean"]["accuracy"] == pytest.approx(0.75 / 3)
    assert (scores["classification"]["low"], scores["classification"]["high"]) == pytest.approx(
        (0.103, 0.897), abs=1e-3
    )
    assert scores["math"]["low"] < 0.25 < scores["math"]["high"]
    # BOX was asked twice, and so was question m: seven answers to four questions.
    assert {name: cell["clusters"] for name, cell in scores.items()} == {
        "detection": 1,
        "classification": 1,
        "math": 2,
        "mean": 4,
    }


def test_a_task_whose_questions_have_several_domains_is_scored_by_domain_too() -> None:
    rows = [
        answer(question("m", domain="rule"), wrap("5")),
        answer(question("n", domain="rule"), wrap("6")),
        answer(question("o", domain="visual"), wrap("6")),
        answer(NAMES, wrap("cat")),
    ]
    scores = suite_scores(rows, resamples=100)
    domains = scores["math"].pop("domains")
    assert {name: (cell["accuracy"], cell["n"]) for name, cell in domains.items()} == {
        "rule": (0.5, 2),
        "visual": (0.0, 1),
    }
    assert all("domains" not in cell for cell in scores.values())
    line = table({"base": {"out_of_domain": {**scores, "math": {**scores["math"], "domains": domains}}}})[-1]
    assert re.fullmatch(
        r"base      out-of-domain, math: rule 0\.500 \[0\.0\d\d, 0\.9\d\d\], visual 0\.000 \[0\.000, 0\.793\]", line
    )


def fake_answers(texts: dict[str, str]) -> Any:
    def answer_all(_: Any, asked: list[Question], sampling: SamplingConfig, *__: Any, **___: Any) -> list[Any]:
        return [[answer(each, texts[each.id])] * sampling.group_size for each in asked]

    return answer_all


def test_validation_is_the_mean_over_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [BOX, question("m"), question("n"), question("o")]
    texts = {"box/open": wrap('{"bbox_2d":[0,0,10,10]}'), "m/open": wrap("5"), "n/open": "", "o/open": ""}
    monkeypatch.setattr("curr_reft.policy.answers.answer_all", fake_answers(texts))
    policy: Any = None
    found = validate(policy, asked, SamplingConfig(), REWARDS)
    assert found.accuracy == pytest.approx((1 + 1 / 3) / 2)
    assert found.tasks["math"] == {"accuracy": pytest.approx(1 / 3), "score": pytest.approx(1 / 3)}


def test_chance_is_how_often_the_answer_to_another_question_is_right() -> None:
    yes_no = [question(str(number), form="binary", truth=number < 5) for number in range(10)]
    assert chance_level(yes_no, REWARDS) == pytest.approx(2 * 5 * 4 / 90)  # a coin, less the question itself
    letters = [
        question(str(number), form="choice", truth=frozenset("AB"[number % 2]), options=("4", "5"))
        for number in range(6)
    ]
    assert chance_level(letters, REWARDS) == pytest.approx(2 * 3 * 2 / 30)
    assert chance_level([question("a", truth="1"), question("b", truth="2")], REWARDS) == 0
    assert chance_level([question("a", truth="2"), question("b", truth="4/2")], REWARDS) == 1  # equal in value
    assert chance_level([question("a")], REWARDS) == 0


def test_the_profile_says_which_cells_are_at_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    able = [question(f"a{number}", truth=str(number)) for number in range(12)]
    coin = [question(f"c{number}", form="binary", truth=number % 2 == 0) for number in range(12)]
    texts = {each.id: wrap(each.truth if number % 2 else "none") for number, each in enumerate(able)}
    texts |= {each.id: wrap("yes") for each in coin}
    monkeypatch.setattr("curr_reft.evaluate.profile.answer_all", fake_answers(texts))
    policy: Any = None
    config = EvaluationConfig().profile.model_copy(update={"items": 12, "samples": 3})
    cells = with_plan(
        profile(policy, {"open": able, "binary": coin}, config, SamplingConfig(), REWARDS, 0),
        {"open": 90, "binary": 10},
    )
    first, second = cells
    assert (first["task"], first["form"], first["n"]) == ("math", "open", 36)
    assert (first["pass_rate"], first["chance"], first["at_chance"]) == (0.5, 0.0, False)
    assert first["low"] < 0.5 < first["high"]
    assert (first["planned_completions"], first["expected_successes"]) == (90, 45)
    assert first["solved_once"] == 0.5
    assert second["at_chance"]
    assert not stages_at_chance(cells, ["open"])
    assert stages_at_chance(cells, ["binary"])
    assert not stages_at_chance(cells, ["binary", "open"])
    assert not stages_at_chance(cells, ["choice"])  # not measured is not at chance


@pytest.mark.parametrize(
    ("frame", "written"),
    [
        (BoxFrame("pixels", resize_rule(28, 784, 112 * 112)), None),
        (BoxFrame("thousand"), [250, 500, 750, 1000]),
        (BoxFrame("unit"), [0.25, 0.5, 0.75, 1.0]),
    ],
    ids=["pixels", "thousand", "unit"],
)
def test_boxes_of_predictions_are_in_pixels_of_the_original_image(
    frame: BoxFrame, written: list[float] | None, tmp_path: Path
) -> None:
    """The image is 400 x 200: the model sees it smaller, and the gallery draws on the original."""
    size = (400, 200)
    original = (100.0, 100.0, 300.0, 200.0)
    in_frame = frame.to_model(original, size)
    if written is None:
        assert frame.fit(size) != size
        written = [round(value) for value in in_frame]
    asked = question("b", "detection", truth=in_frame, images=(Drawn("i", size),))
    images = save_images([asked], 1, tmp_path, "in_domain")
    assert images == {"b/open": "eval/images/in_domain-detection-00.png"}
    assert Image.open(tmp_path / "in_domain-detection-00.png").size == size
    text = wrap(json.dumps({"bbox_2d": written}))
    (row,) = prediction_rows({"in_domain": [answer(asked, text)]}, images, frame)
    assert row["truth_boxes"] == [pytest.approx(original)]
    assert row["predicted_boxes"] == [pytest.approx(original, abs=3)]  # whole pixels of the smaller image
    assert row["correct"] is True
    assert row["image"] == images["b/open"]
    (blank,) = prediction_rows({"in_domain": [answer(asked, "nothing")]}, images, frame)
    assert blank["predicted_boxes"] == []
    assert blank["truth_boxes"] == [pytest.approx(original)]
    (unshown,) = prediction_rows({"in_domain": [answer(asked, text)]}, {}, frame)
    assert (unshown["image"], unshown["truth_boxes"]) == (None, [])


def test_a_variant_is_evaluated_once_for_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = [question(str(number)) for number in range(3)]
    texts = {each.id: wrap("5") for each in asked}
    monkeypatch.setattr("curr_reft.policy.answers.answer_all", fake_answers(texts))
    loads: list[int] = []

    class Asked:
        frame = BoxFrame("pixels")

    def load() -> Any:
        loads.append(1)
        return Asked()

    config = EvaluationConfig(items=2, bootstrap=100)

    def scores(sha256: str) -> Any:
        tests = {"test": asked, "ood_test": []}
        return evaluate_variant("base", load, tests, tmp_path, config, SamplingConfig(), REWARDS, sha256)

    first = scores("x")
    written = (tmp_path / "base.json").read_bytes(), (tmp_path / "base.predictions.jsonl").read_bytes()
    assert first["in_domain"]["math"]["n"] == 2
    assert set(first) == {"in_domain"}
    assert scores("x") == first
    assert len(loads) == 1
    assert ((tmp_path / "base.json").read_bytes(), (tmp_path / "base.predictions.jsonl").read_bytes()) == written
    scores("y")
    assert len(loads) == 2
    assert len((tmp_path / "base.predictions.jsonl").read_text().splitlines()) == 2
    (tmp_path / "base.json").unlink()  # killed before it was written: the predictions alone do not count
    assert scores("y") == first
    assert len(loads) == 3
    (tmp_path / "base.predictions.jsonl").unlink()  # and neither do the scores: the report reads both
    assert scores("y") == first
    assert len((tmp_path / "base.predictions.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("base.json", '"score": 0.5', '"score": 0.9'),  # two digits of a mean
        ("base.json", '"n": 4', '"n": 400'),
        ("base.json", '"model": "base"', '"model": "rl"'),
        ("base.json", "{", ""),
        ("base.predictions.jsonl", '"score": 1.0', '"score": 0.0'),
        ("base.predictions.jsonl", "so", "no"),  # as many bytes, another answer
        ("base.predictions.jsonl", "\n", "\n\n"),
    ],
)
def test_scores_or_answers_that_were_changed_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, old: str, new: str
) -> None:
    asked = [question(str(number)) for number in range(4)]
    texts = {each.id: wrap("5" if number % 2 else "6") for number, each in enumerate(asked)}
    monkeypatch.setattr("curr_reft.policy.answers.answer_all", fake_answers(texts))

    class Asked:
        frame = BoxFrame("pixels")

    def scores() -> Any:
        tests, config = {"test": asked}, EvaluationConfig(bootstrap=100)
        return evaluate_variant("base", Asked, tests, tmp_path, config, SamplingConfig(), REWARDS, "x")  # type: ignore[arg-type]

    first, path = scores(), tmp_path / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DamagedError, match=re.escape(str(path))) as raised:
        scores()
    assert "remove it" in str(raised.value)
    path.unlink()  # what the message says
    assert scores() == first


def test_first_of_each_task() -> None:
    asked = [question("a"), NAMES, question("b"), BOX, question("c")]
    assert [each.origin for each in first_of_each_task(asked, 1)] == ["a", "names", "box"]
    assert first_of_each_task(asked, None) == asked


def test_the_summary_takes_the_chosen_validation() -> None:
    record = {
        "stage": "01-open", "form": "open", "steps": 4, "ended_by": "gate", "chosen_step": 2,
        "validation": [{"step": 0, "accuracy": 0.1}, {"step": 2, "accuracy": 0.4}, {"step": 4, "accuracy": 0.3}],
        "first": {"reward": 0.5, "accuracy": 0.2}, "last": {},
    }  # fmt: skip
    stage = stage_summary(record)
    assert (stage["validation_accuracy"], stage["reward_first"], stage["reward_last"]) == (0.4, 0.5, None)
    whole = summarise(
        seconds=1.26,
        model="m",
        seed=3,
        stages=[record],
        left_out=["a"],
        rounds=[],
        evaluation={},
        general={},
        differences={},
        same_as={"curr_rl": "base"},
    )
    assert (whole["seconds"], whole["self_improvement"], whole["stages_left_out"]) == (1.3, None, ["a"])
    assert whole["same_as"] == {"curr_rl": "base"}


def test_the_table_has_a_place_for_what_is_missing() -> None:
    mean = {"accuracy": 0.1, "score": 0.25, "low": 0.2, "high": 0.3}
    lines = table({"base": {"in_domain": {"math": {**mean, "n": 3}, "mean": mean}, "out_of_domain": {"mean": mean}}})
    assert len(lines) == 3
    assert lines[2].count("0.250 [0.200, 0.300]") == 2
    assert len({len(line) for line in lines[1:]}) == 1


def test_all_boxes_of_a_list_are_shown() -> None:
    size, frame = (400, 200), BoxFrame("thousand")
    boxes = ((100.0, 100.0, 300.0, 200.0), (0.0, 0.0, 40.0, 20.0))
    in_frame = tuple(frame.to_model(box, size) for box in boxes)
    asked = question("b", "dense_detection", truth=in_frame, images=(Drawn("i", size),))
    text = wrap(json.dumps([list(box) for box in in_frame[:1]]))
    (row,) = prediction_rows({"in_domain": [answer(asked, text)]}, {"b/open": "i.png"}, frame)
    assert row["truth_boxes"] == [pytest.approx(box) for box in boxes]
    assert row["predicted_boxes"] == [pytest.approx(boxes[0])]
    assert (row["score"], row["correct"]) == (pytest.approx(2 / 3), False)


def test_the_table_has_a_column_for_each_task_and_for_mean_average_precision() -> None:
    cell = {"accuracy": 0.25, "score": 0.5, "low": 0.4, "high": 0.6, "n": 4}
    scores = {"math": cell, "dense_detection": cell | {"map": 0.125, "ap50": 0.25}, "detection": cell, "mean": cell}
    _, head, row, bare = table({"base": {"test": scores}, "curr_rl": {"test": {"math": cell, "mean": cell}}})
    assert head.split() == ["model", "mean", "[95", "%]", "detect", "math", "dense", "mAP"]
    assert row.split() == ["base", "0.500", "[0.400,", "0.600]", "0.500", "0.500", "0.500", "0.125"]
    assert bare.split()[-4:] == ["-", "0.500", "-", "-"]
    assert len({len(line) for line in (head, row, bare)}) == 1, "columns line up"
