"""What a run takes from measured difficulty: its own result if there is one, only the forms it trains, or an error."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import tiny_run

from curr_reft.curriculum.difficulty import PassRate
from curr_reft.curriculum.wilson import wilson
from curr_reft.difficulty import QUESTIONS, RESULT, training_questions
from curr_reft.errors import DamagedError, DataError
from curr_reft.integrity import write_sealed
from curr_reft.parquet import read_rows, write_rows
from curr_reft.policy.load import load_chat_processor, load_policy
from curr_reft.policy.policy import Policy
from curr_reft.prepare import Prepared, load_items, prepare
from curr_reft.recipe import Recipe, load_recipe

FLAGS = ["--difficulty.samples", "8", "--self_improvement", "null", "--evaluation.models", "[curr_rl]", "--sft", "null"]


def ready(*flags: str) -> tuple[Recipe, Prepared]:
    recipe = load_recipe(tiny_run.RECIPE, [*FLAGS, *flags])
    return recipe, prepare(recipe, load_items(recipe), load_chat_processor(recipe.model).frame)


def never() -> Policy:
    raise AssertionError("a result was there, and the base was asked again")


def leave_result(prepared: Prepared, folder: Path, passes: dict[str, int]) -> None:
    """The files of a measurement in which every question of a form was right ``passes[form]`` times of 8."""
    rates = []
    for form, right in passes.items():
        low, high = wilson(right, 8)
        rates += [
            PassRate(
                question=q.id, origin=q.origin, task=q.task, form=form, n=8, passes=right, rate=right / 8, low=low,
                high=high, accuracy=right / 8,
            )
            for q in prepared.of("train", form)
        ]  # fmt: skip
    write_rows(folder / QUESTIONS, [asdict(rate) for rate in rates])
    write_sealed(folder / RESULT, {}, [folder / QUESTIONS])


def test_a_result_in_the_run_directory_is_read_and_not_measured(tmp_path: Path) -> None:
    recipe, prepared = ready("--difficulty.order", "variance")
    leave_result(prepared, tmp_path, {"binary": 7, "choice": 4, "open": 0})
    said: list[str] = []
    selection = training_questions(recipe, prepared, never, tmp_path, said.append)
    assert selection.order == "variance"
    for form in ("binary", "choice", "open"):
        assert selection.questions[form] == prepared.of("train", form)
    assert "difficulty: open math: 12 of 12 kept, 0 always right, 0 always wrong" in said


def test_pass_rates_that_were_changed_are_refused(tmp_path: Path) -> None:
    recipe, prepared = ready("--difficulty.order", "variance")
    leave_result(prepared, tmp_path, {"binary": 7, "choice": 4, "open": 0})
    rows = read_rows(tmp_path / QUESTIONS)
    write_rows(tmp_path / QUESTIONS, [{**rows[0], "passes": 0}, *rows[1:]])
    with pytest.raises(DamagedError, match=rf"{QUESTIONS} .*remove it"):
        training_questions(recipe, prepared, never, tmp_path, print)


def test_a_filter_that_leaves_nothing_stops_the_run_with_every_cell(tmp_path: Path) -> None:
    recipe, prepared = ready("--difficulty.drop_always_wrong", "true")
    leave_result(prepared, tmp_path, {"binary": 8, "choice": 4, "open": 0})
    with pytest.raises(DataError) as refused:
        training_questions(recipe, prepared, never, tmp_path, lambda text: None)
    reasons = [reason for _, reason in refused.value.problems]
    assert len(reasons) == 6
    assert sum("in the form binary is left" in reason and "12 always right" in reason for reason in reasons) == 3
    assert sum("in the form open is left" in reason and "12 always wrong" in reason for reason in reasons) == 3
    assert refused.value.exit_code == 2


def test_only_the_forms_that_are_trained_are_measured_in_a_cache_that_runs_may_share(tmp_path: Path) -> None:
    flags = ("--curriculum.stages", "[{name: open, forms: {open: 1}, steps: 2}]", "--curriculum.schedule", "choice")
    cache = tmp_path / "shared.sqlite"
    recipe, prepared = ready(*flags, "--difficulty.cache", str(cache))
    selection = training_questions(recipe, prepared, lambda: load_policy("embedded"), tmp_path / "one", print)
    assert set(selection.questions) == {"choice", "open"}
    rows = read_rows(tmp_path / "one" / QUESTIONS)
    assert {row["question"] for row in rows} == {
        question.id for form in ("choice", "open") for question in prepared.of("train", form)
    }
    assert json.loads((tmp_path / "one" / RESULT).read_text())["split"] == "train"
    assert tiny_run.measured_answers(cache) == len(rows) * 8
    again = training_questions(recipe, prepared, never, tmp_path / "two", print)  # another run, the same cache
    assert again.rates == selection.rates
