"""The general pool: what is asked, how it is scored, and that it stands apart from all that is trained on."""

from pathlib import Path
from typing import Any

import pytest

from curr_reft.data.config import DataConfig
from curr_reft.data.frame import BoxFrame
from curr_reft.data.shapes import shapes_items
from curr_reft.data.stream import ItemStream
from curr_reft.evaluate import general
from curr_reft.evaluate.general import YES_NO, evaluate_general, general_cells, general_table
from curr_reft.evaluate.suites import cell_scores
from curr_reft.files import read_jsonl
from curr_reft.policy.answers import Answered
from curr_reft.policy.config import SamplingConfig
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grading import grade
from curr_reft.tasks import TASKS

FRAME = BoxFrame("pixels")


@pytest.fixture(scope="module")
def cells() -> dict[str, list[Question]]:
    questions, _ = compile_questions(
        shapes_items(0, "general", {"arithmetic": 20}), ["binary", "open"], seed=0, frame=FRAME
    )
    return general_cells(questions["open"], questions["binary"])


def test_the_pool_is_text_only_and_asked_in_two_ways(cells: dict[str, list[Question]]) -> None:
    assert {name: len(asked) for name, asked in cells.items()} == {"arithmetic": 20, YES_NO: 20}
    assert not any(question.images for asked in cells.values() for question in asked)
    assert {question.form for question in cells[YES_NO]} == {"binary"}
    assert sum(question.truth for question in cells[YES_NO]) == 10
    assert general_cells([], []) == {}


def test_no_item_of_it_is_asked_elsewhere() -> None:
    shapes = {"pool": {"arithmetic": 100}, "general": {"arithmetic": 100}}
    counts = dict.fromkeys(("detection", "classification", "math"), 1)
    shapes |= dict.fromkeys(("train", "validation", "test", "ood_test"), counts)
    config = DataConfig.model_validate({"shapes": shapes})
    items = list(ItemStream(config, lambda task, raw: TASKS[task].read_truth(raw)))
    asked = {split: {item.question for item in items if item.split == split} for split in ("general", "pool")}
    assert len(asked["general"]) == len(asked["pool"]) == 100
    assert not asked["general"] & asked["pool"]


def answered(question: Question, right: bool) -> Answered:
    text = FORMS[question.form].write(question) if right else "no idea"
    completion = f"<think> so </think> <answer> {text} </answer>"
    return Answered(question=question, completion=completion, truncated=False, grade=grade(question, completion))


def test_scores_have_intervals_and_a_mean_over_cells(cells: dict[str, list[Question]]) -> None:
    answers = {
        "arithmetic": [answered(question, number < 5) for number, question in enumerate(cells["arithmetic"])],
        YES_NO: [answered(question, True) for question in cells[YES_NO]],
    }
    scores = cell_scores(answers, resamples=200)
    assert (scores["arithmetic"]["score"], scores["arithmetic"]["n"]) == (0.25, 20)
    assert 0 < scores["arithmetic"]["low"] < 0.25 < scores["arithmetic"]["high"] < 1
    assert scores["mean"]["score"] == scores["mean"]["accuracy"] == 0.625
    assert scores["mean"]["low"] < 0.625 < scores["mean"]["high"]
    lines = general_table({"curr_rl": scores, "curr_reft": scores})
    assert len(lines) == 3
    assert "0.625" in lines[1]


def test_a_model_is_asked_once_for_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cells: dict[str, list[Question]]
) -> None:
    def greedily(policy: Any, asked: list[Question], *_: Any) -> list[Answered]:
        policy.calls += 1
        return [answered(question, True) for question in asked]

    monkeypatch.setattr(general, "answer_greedily", greedily)

    class Model:
        frame = FRAME
        calls = 0

    model: Any = Model()

    def evaluated(sha256: str) -> Any:
        return evaluate_general(
            "curr_rl", lambda: model, cells, tmp_path, SamplingConfig(), RewardsConfig(), 100, sha256
        )

    assert evaluated("a") == evaluated("a")
    assert model.calls == 2  # a call a cell
    evaluated("b")
    assert model.calls == 4
    assert len(read_jsonl(tmp_path / "curr_rl.general.jsonl")) == 40
    (tmp_path / "curr_rl.general.jsonl").unlink()  # the report reads both
    evaluated("b")
    assert model.calls == 6
    assert len(read_jsonl(tmp_path / "curr_rl.general.jsonl")) == 40
