"""Differences of two models on the same items: paired, by task and of the mean; refused where the items differ."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curr_reft.errors import DataError
from curr_reft.evaluate.differences import differences, paired, pairs_of


def answers(scores: dict[str, list[float]], split: str = "in_domain") -> list[dict[str, Any]]:
    return [
        {"id": f"{task}/{number}", "split": split, "task": task, "score": score}
        for task, own in scores.items()
        for number, score in enumerate(own)
    ]


def test_the_interval_is_that_of_the_difference_and_not_of_two_scores() -> None:
    """Hard and easy items, and a model that is better by a little on every one: sure, though the scores vary widely."""
    rng = np.random.default_rng(0)
    hardness = rng.uniform(0.1, 0.9, 300)
    gain = rng.normal(0.02, 0.05, 300)
    one, other = answers({"math": list(hardness + gain)}), answers({"math": list(hardness)})
    cell = paired(one, other, resamples=2000)["in_domain"]["math"]
    assert cell["mean"] == pytest.approx(gain.mean())
    assert cell["n"] == 300
    half = 1.96 * np.sqrt(gain.var() * 300 + 2) / 302  # of the 300 and two more, +1 and -1 (score_intervals.py)
    centre = gain.sum() / 302
    assert (cell["low"], cell["high"]) == pytest.approx((centre - half, centre + half), abs=0.0008)
    assert 0 < cell["low"] < cell["high"] < 0.035  # by the scores alone either end would be 0.05 further out


def test_the_mean_is_over_tasks_whatever_their_sizes() -> None:
    one = answers({"math": [1.0] * 10, "detection": [0.5] * 90})
    other = answers({"math": [0.0] * 10, "detection": [0.5] * 90})
    found = paired(one, other, resamples=100)["in_domain"]
    assert found["mean"]["mean"] == 0.5
    assert found["detection"]["mean"] == 0
    assert (found["math"]["n"], found["detection"]["n"], found["mean"]["clusters"]) == (10, 90, 100)


def test_the_order_of_rows_does_not_matter() -> None:
    one, other = answers({"math": [0.0, 1.0, 1.0]}), answers({"math": [0.0, 1.0, 0.0]})
    assert paired(one, other[::-1], resamples=200)["in_domain"]["math"]["mean"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("change", ["missing", "twice", "another"])
def test_models_that_answered_other_items_are_not_paired(change: str) -> None:
    one, other = answers({"math": [0.0, 1.0]}), answers({"math": [0.0, 1.0]})
    if change == "missing":
        other.pop()
    elif change == "twice":
        other.append(other[0])
    else:
        other[0]["id"] = "math/7"
    with pytest.raises(ValueError, match="the same items"):
        paired(one, other, resamples=10)


def test_every_round_is_told_against_what_it_began_with() -> None:
    names = ["base", "rl", "curr_rl", "curr_reft", "curr_rl_round_2", "curr_reft_round_2"]
    assert pairs_of(names) == [
        ("curr_rl", "rl"),
        ("curr_reft", "curr_rl"),
        ("curr_rl_round_2", "curr_reft"),
        ("curr_reft_round_2", "curr_reft"),
    ]


def test_the_general_pool_is_paired_by_its_own_cells(tmp_path: Path) -> None:
    for name, right in (("curr_rl", 0.0), ("curr_reft", 1.0)):
        files = {
            "predictions": answers({"math": [0.5, 0.5]}),
            # as written: the cell stands where a suite stands otherwise, the same item may stand in two cells
            "general": [
                {"id": "sum/1", "split": cell, "task": "math", "score": right} for cell in ("arithmetic", "yes_no")
            ],
        }
        for kind, rows in files.items():
            (tmp_path / f"{name}.{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = differences(tmp_path, ["curr_rl", "curr_reft"], 200)["curr_reft - curr_rl"]
    assert found["in_domain"]["mean"]["mean"] == 0
    assert {name: cell["mean"] for name, cell in found["general"].items()} == {
        "arithmetic": 1.0,
        "yes_no": 1.0,
        "mean": 1.0,
    }


def test_pictures_and_not_questions_are_what_a_difference_is_sure_by() -> None:
    """A model that is better on 6 of 10 pictures, whatever is asked, is not surer for 12 questions about each."""

    def rows(right: int, noted: bool) -> list[dict[str, Any]]:
        found = []
        for row in answers({"detection": [0.0] * 60, "math": [0.0] * 60}):
            picture = int(row["id"].split("/")[1]) // 6
            found.append(row | {"score": float(picture < right)} | ({"cluster": f"p{picture}"} if noted else {}))
        return found

    apart = paired(rows(6, False), rows(0, False), resamples=2000)["in_domain"]
    shared = paired(rows(6, True), rows(0, True), resamples=2000)["in_domain"]
    by_one = paired(rows(6, False), rows(0, True), resamples=2000)["in_domain"]  # an earlier version evaluated the one
    assert shared == by_one
    assert (apart["mean"]["clusters"], shared["mean"]["clusters"]) == (120, 10)
    assert apart["mean"]["mean"] == shared["mean"]["mean"] == 0.6
    widths = [found["mean"]["high"] - found["mean"]["low"] for found in (shared, apart)]
    assert widths[0] > 2.5 * widths[1]


def test_answers_that_were_lost_are_named_by_their_files(tmp_path: Path) -> None:
    for name, count in (("curr_rl", 2), ("curr_reft", 3)):
        rows = answers({"math": [0.5] * count})
        (tmp_path / f"{name}.predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"curr_reft\.pred.* and .*curr_rl\.pred.*: .*same items.*--resume"):
        differences(tmp_path, ["curr_rl", "curr_reft"], 50)


def test_a_score_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="math: nan is no score from -1 to 1"):
        paired(answers({"math": [float("nan")]}), answers({"math": [1.0]}), resamples=10)
