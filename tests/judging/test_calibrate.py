"""Calibration finds what is built into toy judges: agreement, love of length, of a place, moods; and a threshold."""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curr_reft.errors import UsageError
from curr_reft.improve import judges
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges import Workplace
from curr_reft.improve.records import CRITERIA, Candidate, Verdict
from curr_reft.judging.calibrate import LEAST_KEPT, PADDING, Plan, calibrate, pad, recommend
from curr_reft.judging.page import calibration_page
from curr_reft.judging.rows import Labelled
from curr_reft.judging.statistics import auc, kappa, partial_spearman, ranks, spearman
from curr_reft.policy.config import ModelConfig
from curr_reft.questions.question import Question
from curr_reft.rewards.grade import Grade, Status

ROWS = 200


def labelled(number: int) -> Labelled:
    """Right in two of three; of a length that has nothing to do with it."""
    name = f"r{number}"
    asked = Question(id=name, origin=name, task="", form="open", prompt="?", truth=None)
    words = " ".join(["so"] * random.Random(name).randrange(5, 80))
    candidate = Candidate(
        question=asked,
        sample=0,
        completion=f"<think> {words} </think> <answer> {number} </answer>",
        truncated=False,
        grade=Grade(status=Status.NO_TRUTH, format=1.0, accuracy=None),
    )
    return Labelled(candidate=candidate, correct=number % 3 > 0)


class Toy:
    """``total(row, candidate, workplace)`` is the judge; None is no verdict."""

    name = "toy"

    def __init__(self, total: Callable[[int, Candidate, Workplace], float | None], workplace: Workplace) -> None:
        self.total = total
        self.workplace = workplace

    def account(self) -> Mapping[str, Any]:
        return {}

    def judge(self, candidates: Sequence[Candidate]) -> list[Verdict]:
        return [self._verdict(each) for each in candidates]

    def _verdict(self, candidate: Candidate) -> Verdict:
        total = self.total(int(candidate.question.id[1:]), candidate, self.workplace)
        if total is None:
            return Verdict(candidate_id=candidate.id, scores={}, total=None, failure="mood: none")
        total = min(100.0, max(0.0, total))
        return Verdict(candidate_id=candidate.id, scores=dict.fromkeys(CRITERIA, total), total=total)


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    def measure(total: Callable[[int, Candidate, Workplace], float | None], **plan: Any) -> dict[str, Any]:
        monkeypatch.setitem(judges.JUDGES, "rules", lambda _, workplace: Toy(total, workplace))
        rows = [labelled(number) for number in range(ROWS)]
        place = Workplace(cache=Path("none"), say=print)
        return calibrate(JudgeConfig(), rows, place, Plan(**{"threshold": 85.0, "resamples": 200, **plan}))

    return measure


def noise(row: int, *names: Any) -> float:
    return random.Random(f"{row} {names}").uniform(-5, 5)


def fair(row: int, _: Candidate, __: Workplace) -> float:
    return (92 if row % 3 else 60) + noise(row)


def test_a_fair_judge(calibrated: Callable[..., dict[str, Any]]) -> None:
    found = calibrated(fair)
    assert found["agreement"]["accuracy"]["value"] == 1
    assert found["agreement"]["kappa"]["value"] == 1
    assert found["agreement"]["auc"]["value"] == 1
    assert 0.7 < found["agreement"]["spearman"]["value"] < 1
    assert abs(found["length"]["partial_spearman"]["value"]) < 0.2
    assert found["length"]["padding"]["mean"] == {"value": 0, "low": 0, "high": 0}
    assert found["position"]["reversed"]["mean"]["value"] == 0
    assert found["consistency"]["spread"]["value"] == pytest.approx(0, abs=1e-9)
    assert found["consistency"]["one_side"]["value"] == 1
    assert found["recommended"] == {"threshold": 65.0, "reached": True, "target": 0.95}
    for low, high in pairwise(found["curve"]):
        assert low["kept"] >= high["kept"]
    at = {each["threshold"]: each for each in found["curve"]}
    assert at[0.0]["keep_rate"] == 1
    assert at[0.0]["precision"] == pytest.approx(found["right"])
    assert at[0.0]["precision_low"] < at[0.0]["precision"] < at[0.0]["precision_high"]
    assert at[85.0]["precision"] == 1


def test_a_judge_that_guesses(calibrated: Callable[..., dict[str, Any]]) -> None:
    found = calibrated(lambda row, *_: 50 + 10 * noise(row))
    assert abs(found["agreement"]["kappa"]["value"]) < 0.15
    assert found["agreement"]["auc"]["low"] < 0.5 < found["agreement"]["auc"]["high"]
    assert found["recommended"]["reached"] is False


def test_love_of_length_is_found(calibrated: Callable[..., dict[str, Any]]) -> None:
    found = calibrated(lambda row, each, place: fair(row, each, place) - 25 + len(each.completion) / 20)
    assert found["length"]["partial_spearman"]["low"] > 0.5
    assert found["length"]["padding"]["mean"]["value"] == pytest.approx(len(PADDING) / 20, abs=0.1)


def test_love_of_a_place_is_found(calibrated: Callable[..., dict[str, Any]]) -> None:
    found = calibrated(lambda row, each, place: fair(row, each, place) - 6 * (place.order[0] == "fluency"))
    assert found["position"]["reversed"]["mean"]["value"] == pytest.approx(-6, abs=0.5)
    assert found["position"]["by_criterion"]["logic"] == pytest.approx(-6, abs=0.5)


def test_moods_are_found(calibrated: Callable[..., dict[str, Any]]) -> None:
    found = calibrated(lambda row, each, place: fair(row, each, place) + noise(row, place.repeat), repeats=5)
    assert found["consistency"]["repeats"] == 5
    assert 2 < found["consistency"]["spread"]["value"] < 4
    assert 0.5 < found["consistency"]["one_side"]["value"] < 1


def test_no_verdict_is_left_out_and_counted(calibrated: Callable[..., dict[str, Any]]) -> None:
    found = calibrated(lambda row, *each: None if row % 4 == 0 else fair(row, *each))
    assert found["verdicts"] == 150
    assert found["judge"]["failures"] == {"mood": 50}
    assert found["agreement"]["accuracy"]["value"] == 1
    assert found["curve"][0]["keep_rate"] == 1
    with pytest.raises(UsageError, match=r"9 of 200 rows got a verdict .*'mood': 191"):
        calibrated(lambda row, *each: fair(row, *each) if row < 9 else None)


def test_a_judge_in_this_process_is_loaded_once_for_all_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []

    def load(config: ModelConfig) -> Any:
        loads.append(config.path)
        return len(loads)

    def by_model(row: int, each: Candidate, place: Workplace) -> float:
        assert place.load(ModelConfig(path="a-judge")) == 1  # type: ignore[comparison-overlap]
        return fair(row, each, place)

    monkeypatch.setitem(judges.JUDGES, "rules", lambda _, workplace: Toy(by_model, workplace))
    place = Workplace(cache=Path("none"), say=print, load=load)
    calibrate(JudgeConfig(), [labelled(n) for n in range(40)], place, Plan(threshold=85.0, resamples=50, repeats=2))
    assert loads == ["a-judge"]


def test_the_lowest_sure_threshold_is_recommended() -> None:
    def line(threshold: float, kept: int, sure: float) -> dict[str, Any]:
        return {"threshold": threshold, "kept": kept, "precision_at_least": sure}

    curve = [line(50, 90, 0.7), line(80, 60, 0.96), line(90, 50, 0.98), line(95, LEAST_KEPT - 1, 0.99)]
    assert recommend(curve, 0.95)["threshold"] == 80
    assert recommend(curve, 0.97)["threshold"] == 90
    assert recommend(curve, 0.985) == {"threshold": 90, "reached": False, "target": 0.985}
    assert recommend(curve[-1:], 0.5) == {"threshold": None, "reached": False, "target": 0.5}


def test_padding_says_nothing_and_changes_no_answer() -> None:
    padded = pad("<think> so 5 </think> <answer> 5 </answer>")
    assert padded == f"<think> so 5{PADDING} </think> <answer> 5 </answer>"
    assert not re.search(r"\d", PADDING)
    assert pad("5").endswith(" 5")


def test_the_page_says_what_was_found(calibrated: Callable[..., dict[str, Any]]) -> None:
    found = calibrated(fair)
    assert json.loads(json.dumps(found)) == found
    page = calibration_page(found, "rows.jsonl")
    assert "**Recommended threshold: 65**" in page
    assert "| Cohen's kappa | 1.00 | 1.00 to 1.00 |" in page
    assert "nan" not in page
    hopeless = calibration_page(calibrated(lambda *_: 50.0), "rows.jsonl")
    assert "No threshold is sure" in hopeless
    assert f"Of those that keep at least {LEAST_KEPT} answers the surest is 0;" in hopeless
    assert "| a right answer scores above a wrong one (AUC) | 0.50 |" in hopeless


# The measures, against their definitions


def test_measures_on_lists_done_by_hand() -> None:
    assert ranks(np.array([10.0, 30, 20, 20])).tolist() == [1, 4, 2.5, 2.5]
    assert spearman(np.array([1.0, 2, 3]), np.array([10.0, 20, 15])) == pytest.approx(0.5)
    assert spearman(np.array([1.0, 1, 1]), np.array([1.0, 2, 3])) is None
    said = np.array([True, True, False, False, True])
    true = np.array([True, False, False, False, True])
    assert kappa(said, true) == pytest.approx((0.8 - 0.48) / 0.52)
    assert kappa(np.array([True, True]), np.array([True, True])) is None
    scores = np.array([90.0, 80, 80, 10])
    assert auc(scores, np.array([True, True, False, False])) == pytest.approx(3.5 / 4)
    assert auc(scores, np.array([True] * 4)) is None


def test_auc_and_partial_correlation_against_their_long_forms() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, true = rng.integers(0, 8, 30).astype(float), rng.random(30) < 0.4
        pairs = [(a > b) + (a == b) / 2 for a in scores[true] for b in scores[~true]]
        assert auc(scores, true) == pytest.approx(np.mean(pairs))
        given, other = rng.random(30), rng.random(30)
        a, b, c = (ranks(each) for each in (scores, other, given))
        line = np.stack([c, np.ones(30)], axis=1)
        left, right = (each - line @ np.linalg.lstsq(line, each, rcond=None)[0] for each in (a, b))
        expected = float(left @ right / np.sqrt((left @ left) * (right @ right)))
        assert partial_spearman(scores, other, given) == pytest.approx(expected)
    assert partial_spearman(scores, other, np.ones(30)) == spearman(scores, other)
