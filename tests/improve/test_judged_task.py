"""Queries without a truth: they load from a pool, are graded as a state and not as zero, and stand nowhere else."""

import json
from pathlib import Path

import pytest

from curr_reft.data.frame import BoxFrame
from curr_reft.errors import DataError
from curr_reft.improve.config import JudgeConfig
from curr_reft.improve.judges import Workplace, judge_all
from curr_reft.improve.records import Candidate
from curr_reft.prepare import load_items, prepare, query_pool
from curr_reft.recipe import load_recipe
from curr_reft.rewards.grade import Status
from curr_reft.rewards.grading import grade

SUMS = [{"problem": f"what is {n} plus {n}", "solution": str(2 * n), "task": "math"} for n in range(12)]
FREE = [{"messages": [{"role": "user", "content": f"Describe the number {n}."}], "domain": "general"} for n in range(3)]


def recipe_of(folder: Path, **lists: str) -> Path:
    for name, rows in (("sums", SUMS[:8]), ("tests", SUMS[8:]), ("free", FREE)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"train": "sums", "test": "tests", "pool": "free"} | lists
    listed = "".join(
        f"    {split}: [{{path: {name}.jsonl{', task: judged' if name == 'free' else ''}}}]\n"
        for split, name in files.items()
    )
    path = folder / "recipe.yaml"
    path.write_text(
        f"name: r\ndata:\n  kind: files\n  files:\n{listed}    validation_fraction: 0.3\n"
        "curriculum: {total_steps: 1, stages: [{name: open, forms: {open: 1}, steps: 1}]}\n"
        "self_improvement:\n  pools: {general: {queries: 3, quota: 1}}\n"
        "  judge: {kind: local, local: {model: {path: m}}}\n"
    )
    return path


def test_a_pool_may_hold_what_has_no_truth(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_of(tmp_path))
    prepared = prepare(recipe, load_items(recipe), BoxFrame("pixels"))
    asked = query_pool(prepared)
    assert [(each.task, each.domain) for each in asked] == [("judged", "general")] * 3
    found = grade(asked[0], "<think> so </think> <answer> It is small. </answer>")
    assert (found.status, found.accuracy, found.correct, found.format) == (Status.NO_TRUTH, None, None, 1)
    assert grade(asked[0], "<think> so </think> <answer>  </answer>").status is not Status.NO_TRUTH


def test_it_may_stand_nowhere_else(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_of(tmp_path, test="free", pool="tests"))
    with pytest.raises(DataError, match=r"free\.jsonl:1: is of the task judged.*list it under data\.files\.pool"):
        prepare(recipe, load_items(recipe), BoxFrame("pixels"))


def test_rules_that_could_judge_none_of_them_are_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_of(tmp_path), ["--self_improvement.judge", "{kind: rules}"])
    with pytest.raises(DataError, match=r"judge\.kind: rules gives .* the queries of general have none .*endpoint or"):
        prepare(recipe, load_items(recipe), BoxFrame("pixels"))
    asked = query_pool(prepare(load_recipe(tmp_path / "recipe.yaml"), load_items(recipe), BoxFrame("pixels")))
    text = "<think> so </think> <answer> It is small. </answer>"
    answer = Candidate(question=asked[0], sample=0, completion=text, truncated=False, grade=grade(asked[0], text))
    judged = judge_all(JudgeConfig(), [answer], Workplace(cache=tmp_path / "none", say=print))
    assert (judged.account["verdicts"], judged.account["failures"]) == (0, {"no truth": 1})


def test_a_query_that_leaks_into_a_test_is_refused_or_left_out(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_of(tmp_path, pool="again"), [])
    (tmp_path / "again.jsonl").write_text("".join(json.dumps({**row, "domain": "general"}) + "\n" for row in SUMS[6:]))
    with pytest.raises(DataError, match=r"leak between splits"):
        prepare(recipe, load_items(recipe), BoxFrame("pixels"))
    recipe = load_recipe(
        tmp_path / "recipe.yaml",
        ["--data.leaking_rows", "skip", "--self_improvement", "null", "--evaluation.models", "[base]"],
    )
    prepared = prepare(recipe, load_items(recipe), BoxFrame("pixels"))
    assert prepared.of("pool") == []
    assert prepared.card["questions"]["left_out"] == {"pool": 6}
