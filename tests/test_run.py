"""The whole method by the user's door: what a run leaves, and that it is the same again."""

import json
import os
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import tiny_run
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from curr_reft.errors import UsageError
from curr_reft.policy.load import load_policy, model_folder
from curr_reft.recipe import load_recipe
from curr_reft.run_dir import RunDir
from curr_reft.train.checkpoint import last_complete, load
from curr_reft.train.publish import read_published, weights_hash

STAGES = ("01-binary", "02-choice", "03-open")
TRAININGS = (*(f"stages/{name}" for name in STAGES), "baselines/rl", "baselines/sft", "self-improve")
VARIANTS = ("base", "sft", "rl", "curr_rl", "curr_reft")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_run_directory_is_that_of_the_architecture_page(finished: Any) -> None:
    expected = {"recipe.yaml", "run.json", "run.log", "metrics.jsonl", "summary.json", "report.html", "README.md"}
    expected |= {"data/card.json", "eval/profile.json", "model/model.safetensors", "model/config.json"}
    expected |= {f"self-improve/{name}" for name in ("candidates.parquet", "verdicts.jsonl", "kept.jsonl")}
    expected |= {"self-improve/account.json"}
    for folder in TRAININGS:
        expected |= {f"{folder}/manifest.json", f"{folder}/model/model.safetensors"}
    for name in VARIANTS:
        expected |= {f"eval/{name}.json", f"eval/{name}.predictions.jsonl"}
    found = set(tiny_run.files(finished.path))
    assert expected <= found
    for folder in TRAININGS:
        saved = {Path(name).parent for name in found if name.startswith(f"{folder}/checkpoints/step-")}
        assert saved
        for step in saved:
            assert {f"{step}/{name}" for name in ("model.safetensors", "state.json", "manifest.json")} <= found
    for folder in TRAININGS[:4]:
        assert any(name.startswith(f"{folder}/rollouts/") and name.endswith(".parquet") for name in found)
    assert any(name.startswith("eval/images/") and name.endswith(".png") for name in found)
    assert not [name for name in found if ".tmp" in name or ".old" in name or Path(name).name.startswith(".model")]
    assert read(finished.path / "run.json")["state"] == "done"


def test_the_log_holds_what_the_run_said_with_times(finished: Any) -> None:
    lines = [line.split(" ", 1) for line in (finished.path / "run.log").read_text().splitlines()]
    assert all(datetime.fromisoformat(time).tzinfo is not None for time, _ in lines)
    texts = [text for _, text in lines]
    assert "evaluating base" in texts
    steps = [row for row in tiny_run.rows(finished.path) if row["kind"] == "train"]
    assert sum(" step " in text and "validation" not in text for text in texts) == len(steps)
    assert texts[-1] == f"report: {finished.path / 'report.html'}"


def test_the_summary_has_the_promised_shape(finished: Any) -> None:
    """Tools read this file: a change here is to be announced."""
    summary = read(finished.path / "summary.json")
    assert set(summary) == {
        "seconds", "model", "seed", "stages", "stages_left_out", "self_improvement", "rounds", "evaluation", "general",
        "differences",
    }  # fmt: skip
    assert summary["seconds"] > 0
    assert (summary["model"], summary["seed"], summary["stages_left_out"]) == ("embedded", 0, [])
    assert [stage["form"] for stage in summary["stages"]] == ["binary", "choice", "open"]
    assert [stage["steps"] for stage in summary["stages"]] == [2, 3, 3]
    for stage in summary["stages"]:
        assert set(stage) == {
            "name", "form", "steps", "ended_by", "reward_first", "reward_last", "accuracy_first", "accuracy_last",
            "chosen_step", "validation_accuracy",
        }  # fmt: skip
    account = summary["self_improvement"]
    assert set(account) == {"queries", "candidates", "kept", "threshold"}
    assert account["queries"] == 48
    assert account["queries"] <= account["candidates"] <= 48 * 6
    assert 0 < account["kept"] <= 32
    assert list(summary["evaluation"]) == list(VARIANTS)
    for suites in summary["evaluation"].values():
        assert set(suites) == {"in_domain", "out_of_domain"}
        for scores in suites.values():
            assert set(scores) == {"detection", "classification", "math", "mean"}
            for task, score in scores.items():
                keys = {"accuracy", "score", "low", "high", "clusters"}
                assert set(score) == keys | ({"n"} if task != "mean" else set())
                assert 0 <= score["low"] <= score["score"] <= score["high"] <= 1
                assert task == "mean" or score["n"] == 6
            for key in ("accuracy", "score"):
                tasks = [scores[task][key] for task in ("detection", "classification", "math")]
                assert scores["mean"][key] == pytest.approx(sum(tasks) / 3)


def test_the_final_model_loads_and_is_the_last_published(finished: Any) -> None:
    folder = finished.path / "model"
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder)("find")["input_ids"]
    loaded, ours = model.state_dict(), load_policy(finished.path / "self-improve" / "model").core.state_dict()
    assert set(loaded) == set(ours)
    assert all(torch.equal(loaded[name], ours[name]) for name in ours)
    assert weights_hash(folder) == weights_hash(finished.path / "self-improve" / "model")


def test_every_stage_starts_from_what_the_one_before_published(finished: Any) -> None:
    expected = weights_hash(Path(model_folder("embedded")))
    for name in STAGES:
        published = read_published(finished.path / "stages" / name)
        assert published is not None
        assert published.record["start_sha256"] == expected
        expected = published.weights_sha256
    improved = read_published(finished.path / "self-improve")
    assert improved is not None
    assert improved.record["start_sha256"] == expected
    assert read(finished.path / "self-improve" / "account.json")["weights_sha256"] == expected
    for name in ("rl", "sft"):
        baseline = read_published(finished.path / "baselines" / name)
        assert baseline is not None
        assert baseline.record["start_sha256"] == weights_hash(Path(model_folder("embedded")))


def test_training_trained(finished: Any) -> None:
    """Else everything below that compares weights would compare the base with itself."""
    starts = {"baselines/rl": model_folder("embedded"), "baselines/sft": model_folder("embedded")}
    starts["self-improve"] = str(finished.path / "stages" / STAGES[-1] / "model")
    for folder, start in starts.items():
        saved = last_complete(finished.path / folder / "checkpoints")
        assert saved is not None
        trained = load(saved).tensors["model"]
        before = dict(load_policy(start).model.named_parameters())
        assert set(trained) <= set(before)
        assert any(not torch.equal(tensor, before[name]) for name, tensor in trained.items()), folder


def test_every_step_is_in_the_metrics_once_and_the_best_validation_was_chosen(finished: Any) -> None:
    rows = tiny_run.rows(finished.path)
    trained = Counter((row["stage"], row["step"]) for row in rows if row["kind"] == "train")
    budgets = {"01-binary": 2, "02-choice": 3, "03-open": 3, "rl": 8, "sft": 3, "self_improvement": 3}
    assert trained == {(stage, step): 1 for stage, steps in budgets.items() for step in range(1, steps + 1)}
    for stage in budgets:
        own = [row for row in rows if row["stage"] == stage and row["kind"] == "validation"]
        assert [row["step"] for row in own] == [
            step for step in range(budgets[stage] + 1) if step % 2 == 0 or step == budgets[stage]
        ]
        where = {"rl": "baselines/rl", "sft": "baselines/sft", "self_improvement": "self-improve"}
        manifest = read(finished.path / where.get(stage, f"stages/{stage}") / "manifest.json")
        best = max(own, key=lambda row: (row["accuracy"], row["score"], -row["step"]))
        assert manifest["chosen_step"] == best["step"]
    for row in rows:
        if row["kind"] == "train":
            assert row["tokens_per_second"] > 0
            assert sum(row["seconds"].values()) > 0


def test_rollout_files_hold_every_completion_once(finished: Any) -> None:
    for folder, steps in (("stages/02-choice", 3), ("stages/03-open", 3), ("baselines/rl", 8)):
        found = [
            row
            for path in sorted((finished.path / folder / "rollouts").iterdir())
            for row in pyarrow.parquet.read_table(path).to_pylist()
        ]
        assert Counter(row["step"] for row in found) == dict.fromkeys(range(1, steps + 1), 3 * 4)
    assert {row["form"] for row in found} == {"open"}


def test_off_a_terminal_the_console_says_one_line_a_step(finished: Any) -> None:
    for stage, steps in (("curr_rl 01-binary", 2), ("curr_rl 02-choice", 3), ("curr_rl 03-open", 3), ("rl", 8)):
        for step in range(1, steps + 1):
            (line,) = [line for line in finished.output.splitlines() if f"] {stage} step {step}/{steps}: " in line]
            for part in ("reward ", "format ", "accuracy ", "no variance ", "clipped ", " tokens/s"):
                assert part in line
    assert finished.output.splitlines()[-1].endswith(f"report: {finished.path / 'report.html'}")
    assert "\x1b" not in finished.output


def test_a_used_directory_is_refused_with_three_ways_out(finished: Any) -> None:
    done = tiny_run.curr_reft("run", tiny_run.RECIPE, "--output", finished.path)
    assert done.returncode == 2
    for way in ("--resume", "--output DIR", f"rm -r {finished.path}"):
        assert way in done.stderr
    other = tiny_run.curr_reft("run", tiny_run.RECIPE, "--output", finished.path, "--resume", "--seed", "1")
    assert other.returncode == 2
    assert "seed: 0 -> 1" in other.stderr


def test_resuming_a_finished_run_repeats_nothing(finished: Any, tmp_path: Path) -> None:
    before = {
        name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in tiny_run.files(finished.path).items()
    }
    assert tiny_run.run("--output", finished.path, "--resume", log=tmp_path / "log") == 0
    assert f"{finished.path / 'report.html'}" in (tmp_path / "log").read_text()
    after = {name: (path.stat().st_mtime_ns, path.read_bytes()) for name, path in tiny_run.files(finished.path).items()}
    assert {name for name in before if before[name] != after[name]} <= {".lock"}
    assert set(before) == set(after)


def test_one_seed_twice_is_the_same_run_and_another_seed_another(finished: Any, tmp_path: Path) -> None:
    assert tiny_run.run("--output", tmp_path / "again", log=tmp_path / "log") == 0, (tmp_path / "log").read_text()
    tiny_run.assert_same(tmp_path / "again", finished.path)
    flags = ("--seed", "1", "--evaluation.models", "[curr_rl]", "--curriculum.total_steps", "6")
    assert tiny_run.run("--output", tmp_path / "other", *flags, log=tmp_path / "log") == 0
    first = {row["question"] for row in rollouts(finished.path)}
    assert first != {row["question"] for row in rollouts(tmp_path / "other")} or (
        tiny_run.untimed_rows(tmp_path / "other")[1] != tiny_run.untimed_rows(finished.path)[1]
    )


def rollouts(folder: Path) -> list[dict[str, Any]]:
    table = pyarrow.parquet.read_table(folder / "stages" / "01-binary" / "rollouts" / "until-000002.parquet")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def test_a_run_is_not_resumed_with_other_data_or_another_base(tmp_path: Path) -> None:
    """The recipe may be the same while the files it names are not."""
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(tmp_path / "run")])
    with RunDir.open(recipe.output, recipe) as directory:
        directory.require_same("the data", "data_sha256", "a")
        directory.mark_done("eval/base", {})
    with RunDir.open(recipe.output, recipe, resume=True) as directory:
        directory.require_same("the data", "data_sha256", "a")
        with pytest.raises(UsageError, match=r"the data changed since this run began \(data_sha256 a -> b\)"):
            directory.require_same("the data", "data_sha256", "b")


def test_nothing_kept_is_a_finding_and_not_a_failure(tmp_path: Path) -> None:
    flags = (
        *("--self_improvement.threshold", "100", "--evaluation.models", "[curr_rl, curr_reft]"),
        *("--curriculum.stages", "[{name: open, forms: {open: 1}, steps: 1}]", "--curriculum.total_steps", "1"),
    )
    assert tiny_run.run("--output", tmp_path / "run", *flags, log=tmp_path / "log") == 0
    assert "nothing to learn, curr_reft is curr_rl" in (tmp_path / "log").read_text()
    summary = read(tmp_path / "run" / "summary.json")
    assert summary["self_improvement"]["kept"] == 0
    assert summary["evaluation"]["curr_reft"] == summary["evaluation"]["curr_rl"]
    assert weights_hash(tmp_path / "run" / "model") == weights_hash(tmp_path / "run" / "stages" / "01-open" / "model")


def test_stages_at_chance_are_left_out_and_their_steps_go_to_the_last(tmp_path: Path, finished: Any) -> None:
    """A profile is given, so that the outcome does not hang on what the base can do."""
    cells = read(finished.path / "eval" / "profile.json")["cells"]
    given = [{**cell, "at_chance": cell["form"] == "choice"} for cell in cells]
    run = tmp_path / "run"
    recipe = load_recipe(
        tiny_run.RECIPE,
        ["--output", str(run), "--curriculum.skip_at_chance", "true", "--evaluation.models", "[curr_rl]"],
    )
    RunDir.open(run, recipe).close()
    (run / "eval").mkdir()
    (run / "eval" / "profile.json").write_text(json.dumps({"cells": given}))
    flags = ("--curriculum.skip_at_chance", "true", "--evaluation.models", "[curr_rl]", "--resume")
    assert tiny_run.run("--output", run, *flags, log=tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert sorted(os.listdir(run / "stages")) == ["01-binary", "03-open"]
    summary = read(run / "summary.json")
    assert summary["stages_left_out"] == ["choice"]
    assert [stage["steps"] for stage in summary["stages"]] == [2, 6]
    first, last = (read(run / "stages" / name / "manifest.json") for name in ("01-binary", "03-open"))
    assert last["start_sha256"] == first["weights_sha256"]
