"""Schedules and difficulty by the user's door: the order of the stages, what was asked, and an exact resume."""

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft.curriculum.difficulty import PassRate
from curr_reft.parquet import read_rows

BRIEF = ("--evaluation.models", "[curr_rl]", "--self_improvement", "null", "--sft", "null")
REVERSED = (
    *BRIEF,
    *("--curriculum.schedule", "reversed", "--sampling.rows_at_once", "32"),
    *("--difficulty.samples", "4", "--difficulty.sure", "0.5", "--difficulty.drop_always_wrong", "true"),
    *("--difficulty.order", "easy_to_hard"),
    *("--curriculum.stages.1.gate", "{accuracy: 0.01, window: 1, min_steps: 1}"),
)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def asked(run: Path, stage: str) -> list[str]:
    """The questions of a stage in the order they were asked."""
    rows = [row for path in sorted((run / "stages" / stage / "rollouts").iterdir()) for row in read_rows(path)]
    return [row["question"] for row in rows[::4]]  # four completions each


@pytest.fixture(scope="module")
def reversed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reversed")
    assert tiny_run.run("--output", folder / "run", *REVERSED, log=folder / "log") == 0, (folder / "log").read_text()
    return folder / "run"


def test_reversed_trains_as_much_in_the_other_order(reversed_run: Path) -> None:
    manifests = [read(path) for path in sorted(reversed_run.glob("stages/*/manifest.json"))]
    assert [(m["stage"], m["form"], m["ended_by"]) for m in manifests] == [
        ("01-open", "open", "budget"),
        ("02-choice", "choice", "gate"),
        ("03-binary", "binary", "budget"),
    ]
    first, second, third = (m["steps"] for m in manifests)
    assert first == 3
    assert second < 3
    assert third == 8 - first - second  # what the gate left
    assert [m["shares"] for m in manifests] == [
        {"open": 1.0},
        {"choice": 0.7, "open": 0.3},
        {"binary": 0.7, "open": 0.15, "choice": 0.15},
    ]
    for m in manifests:  # the share of replay is met over the stage
        counts = {form: sum(tasks.values()) for form, tasks in m["asked"].items()}
        assert sum(counts.values()) == 3 * m["steps"]
        assert all(abs(counts[form] - 3 * m["steps"] * share) < 1 for form, share in m["shares"].items())
        assert counts == Counter(name.split("/")[-1] for name in asked(reversed_run, m["stage"]))
    gate = manifests[1]["gate"]
    assert (gate["rule"], gate["settings"]["accuracy"]) == ("accuracy", 0.01)
    assert gate["recent"] >= 0.01
    assert manifests[0]["gate"] is manifests[2]["gate"] is None
    assert "gate (accuracy)" in (reversed_run / "report.html").read_text()
    recipe = (reversed_run / "recipe.yaml").read_text()
    assert "schedule: reversed" in recipe
    assert recipe.index("name: binary") < recipe.index("name: open")  # as written: a resume schedules it once


def test_what_the_base_never_answers_is_left_out_and_counted(reversed_run: Path) -> None:
    rates = {row["question"]: PassRate(**row) for row in read_rows(reversed_run / "difficulty" / "questions.parquet")}
    assert len(rates) == 108  # the training questions, and no other split's
    dropped = {name for name, rate in rates.items() if rate.passes in (0, 4)}
    assert dropped
    account = read(reversed_run / "data" / "card.json")["difficulty"]
    assert sum(sum(counts.values()) - counts["kept"] for tasks in account.values() for counts in tasks.values()) == len(
        dropped
    )
    for stage in ("01-open", "02-choice", "03-binary"):
        assert not dropped & set(asked(reversed_run, stage))
    for name, tasks in account.items():
        for task, counts in tasks.items():
            own = [rate for rate in rates.values() if (rate.form, rate.task) == (name, task)]
            assert counts["always_wrong"] == sum(rate.passes == 0 for rate in own)
            line = f"{task}, {name}: {counts['kept']} of 12 training questions were asked"
            assert line in (reversed_run / "report.html").read_text()


def test_a_stage_asks_from_easy_to_hard(reversed_run: Path) -> None:
    rates = {row["question"]: row for row in read_rows(reversed_run / "difficulty" / "questions.parquet")}
    for task in ("detection", "classification", "math"):
        own = [rates[name]["rate"] for name in asked(reversed_run, "01-open") if rates[name]["task"] == task]
        assert len(own) == 3
        assert own == sorted(own, reverse=True)


def test_killed_while_measuring_and_while_training_it_ends_the_same(reversed_run: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    cache = run / "difficulty" / "cache.sqlite"
    process = tiny_run.start("--output", run, "--resume", *REVERSED, log=log)
    tiny_run.end_when(process, lambda: tiny_run.measured_answers(cache) > 0)
    measured = tiny_run.measured_answers(cache)
    assert 0 < measured < 432
    assert not (run / "difficulty" / "difficulty.json").exists()
    process = tiny_run.start("--output", run, "--resume", *REVERSED, log=log)
    code = tiny_run.end_when(
        process, lambda: any(row["stage"] == "02-choice" and row["step"] == 1 for row in tiny_run.rows(run))
    )
    assert code == -signal.SIGKILL
    whole = (run / "difficulty" / "questions.parquet").read_bytes()
    assert tiny_run.run("--output", run, "--resume", *REVERSED, log=log) == 0, log.read_text()
    text = log.read_text()
    assert "Traceback" not in text
    assert f"{432 - measured} of 432 answers are not in cache.sqlite yet" in text
    assert (run / "difficulty" / "questions.parquet").read_bytes() == whole
    cache.unlink()  # its pages may lie in another order; what was read from it is compared
    saved = (reversed_run / "difficulty" / "cache.sqlite").read_bytes()
    try:
        (reversed_run / "difficulty" / "cache.sqlite").unlink()
        tiny_run.assert_same(run, reversed_run)
    finally:
        (reversed_run / "difficulty" / "cache.sqlite").write_bytes(saved)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["mixed", "open"])
def test_one_stage_takes_all_updates(schedule: str, tmp_path: Path) -> None:
    flags = ("--curriculum.schedule", schedule, *BRIEF)
    assert tiny_run.run("--output", tmp_path / "run", *flags, log=tmp_path / "log") == 0, (tmp_path / "log").read_text()
    (path,) = (tmp_path / "run").glob("stages/*/manifest.json")
    manifest = read(path)
    assert (manifest["stage"], manifest["steps"], manifest["gate"]) == (f"01-{schedule}", 8, None)
    counts = {form: sum(tasks.values()) for form, tasks in manifest["asked"].items()}
    # binary 2 + 0.3 * 3 + 0.15 * 3, choice 0.7 * 3 + 0.15 * 3, open 0.7 * 3 of 8 updates of 3 prompts
    expected = {"mixed": {"binary": 10, "choice": 8, "open": 6}, "open": {"open": 24}}[schedule]
    assert all(abs(counts[form] - count) <= 1 for form, count in expected.items())
    assert sum(counts.values()) == 24
