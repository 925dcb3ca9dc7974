"""What befell a run stands on its page: extended, resumed, faults it survived, answers that could not be graded."""

import json
from pathlib import Path
from typing import Any

from curr_reft.report.build import build_report, render
from curr_reft.report.history import happenings, unfinished
from curr_reft.report.read import RunFiles, read_run


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_a_run_that_nothing_befell_has_no_such_part(run: Path) -> None:
    change(run / "data" / "card.json", skipped_rows=0)
    assert happenings(read_run(run)) == []
    text = build_report(run).read_text()
    assert "On the way" not in text
    assert "not finished" not in text


def test_what_befell_it_is_told_in_sentences(run: Path) -> None:
    change(
        run / "run.json",
        state="failed",
        ended_by="TrainingError: the loss is not finite",
        resumed=["2026-11-21T06:00:00+00:00", "2026-11-21T07:00:00+00:00"],
        extended=[
            {"at": "2026-11-21T06:00:00+00:00", "changes": ["curriculum.total_steps: 60 -> 120"], "after": 41},
            {
                "at": "2026-11-21T07:00:00+00:00",
                "changes": ["sft.steps: 1 -> 2", "<b>: 3 -> 4"],
            },  # an earlier version's
        ],
        resumed_with=[{"at": "2026-11-21T07:00:00+00:00", "changes": ["torch 2.12.0 -> 2.13.0", "processes 1 -> 2"]}],
    )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[0] |= {"statuses": {"timed_out": 3, "grader_failed": 4}, "parts": {"mine": {"failed": 1}}, "out_of_memory": 2}
    rows[1] |= {"loss": None}
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = run / "eval" / "rl.predictions.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    for row in rows[:2]:
        row["status"] = "timed_out"
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert happenings(read_run(run)) == [
        "Extended on 2026-11-21 06:00 UTC, after 41 updates: curriculum.total_steps: 60 -> 120.",
        "Extended on 2026-11-21 07:00 UTC: sft.steps: 1 -> 2; <b>: 3 -> 4.",
        "Resumed on 2026-11-21 07:00 UTC in other surroundings (torch 2.12.0 -> 2.13.0, processes 1 -> 2): from there "
        "on it may differ from an unbroken run.",
        "Resumed 2 times: 2026-11-21 06:00 UTC, 2026-11-21 07:00 UTC.",
        "Test answers that count as wrong because grading them failed (ran out of time): RL 2.",
        "Completions in training that got no score: 4 whose grader or reward broke down, 3 whose grading "
        "ran out of time.",
        "Custom rewards broke down 1 time.",
        "Memory ran out 2 times; the steps were made again in smaller micro-batches, which changes nothing but "
        "rounding.",
        "Stopped before an update by a loss or gradient that was not finite, 1 time.",
        "Left out of the data as bad: 3 rows.",
    ]
    text = build_report(run).read_text()
    assert '<section id="history">' in text
    assert "&lt;b&gt;: 3 -&gt; 4" in text
    assert "This run is not finished: its state is failed (TrainingError: the loss is not finite)." in text


def test_files_that_somebody_wrote_in_do_not_stop_it(tmp_path: Path) -> None:
    wrong: list[Any] = [7, "x", ["y"], {"at": 3}, {"at": None, "changes": "z"}, {"changes": [1]}]
    files = RunFiles(path=tmp_path, run={"extended": wrong, "resumed_with": wrong, "resumed": wrong, "state": 5})
    files.train = [{"statuses": 3, "parts": ["a"], "resample": "b", "out_of_memory": "c"}, {"parts": {"a": 1}}]
    files.card = {"skipped_rows": "many"}
    assert "1." in happenings(files)[0]
    assert "5" in unfinished(files)
    assert "On the way" in render(files)


def test_a_step_by_itself_says_so(run: Path) -> None:
    change(run / "run.json", alone={"command": "sft", "trainings": {"sft/sft": 30}})
    assert "curr-reft sft, one step by itself" in build_report(run).read_text()


def test_which_kind_of_intervals_the_page_shows(run: Path) -> None:
    """Those of an earlier version took each item for itself; where items share pictures the page says how many do."""
    assert "An earlier\nversion made the intervals" in build_report(run).read_text()
    summary = json.loads((run / "summary.json").read_text())
    for model in summary["evaluation"].values():
        for split, cells in model.items():
            cells["mean"]["clusters"] = 150 if split == "in_domain" else 600
    change(run / "summary.json", evaluation=summary["evaluation"])
    text = build_report(run).read_text()
    assert "An earlier" not in text
    assert "Items that share a picture count together (In-domain 600 items about 150 pictures)" in text
