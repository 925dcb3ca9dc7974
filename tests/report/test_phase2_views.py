"""What the page shows of self-improvement and of the general pool, and that it does without either."""

from pathlib import Path

from curr_reft.report.phase2 import general_view, phase2_view
from curr_reft.report.read import RunFiles

ANSWER = {"completion": "<b>5</b>", "fate": "not_above", "total": 40.0, "scores": {}, "failure": None}
ACCOUNT = {
    "by_domain": {"math": {"candidates": 40, "above": 10, "kept": 4, "short": 2}},
    "histograms": {"total": [1, 0, 0, 0, 0, 0, 0, 0, 0, 3], "broken": [1]},
    "against_truth": {"above": {"right": 9, "wrong": 1}, "not_above": {"right": 2, "wrong": 28}},
    "sampling": {"drawn": 48, "near_duplicates": 8, "tokens": 1234},
    "judging": {"judge": "rules", "failures": {}, "cost": 0.125},
    "examples": [{"domain": "math", "prompt": "how many", "kept": ANSWER | {"total": 99.0}, "refused": ANSWER}],
}


def test_the_account_becomes_tables() -> None:
    view = phase2_view(ACCOUNT)
    assert view["rates"] == [("math", "25.0", "10.0", "2")]
    assert [name for name, _ in view["histograms"]] == ["total"]
    assert view["against_truth"] == [("above the threshold", "9", "1"), ("not above it", "2", "28")]
    assert dict(view["costs"]) == {
        "answers drawn": "48",
        "near-duplicates left out": "8",
        "tokens of the answers": "1,234",
        "judge: judge": "rules",
        "judge: cost": "0.1250",
    }
    (pair,) = view["pairs"]
    assert [answer["label"] for answer in pair["answers"]] == ["kept, total 99", "refused: not above, total 40"]


def test_the_general_pool_has_a_row_a_model_and_the_mean_first(tmp_path: Path) -> None:
    cell = {"score": 0.5, "low": 0.25, "high": 0.75}
    general = {"curr_reft": {"arithmetic": cell, "mean": cell}, "base": {"mean": cell}}
    view = general_view(RunFiles(path=tmp_path, summary={"general": general}))
    assert view["cells"] == ["mean", "arithmetic"]
    assert [model for model, _ in view["rows"]] == ["Base", "Curr-ReFT"]
    assert view["rows"][1][1] == ["50.0 (25.0 to 75.0)"] * 2
    assert view["rows"][0][1][1] == "–"


def test_a_run_without_them_has_nothing_to_show(tmp_path: Path) -> None:
    files = RunFiles(path=tmp_path)
    assert not any(value for name, value in phase2_view({}).items() if name != "tenths")
    assert general_view(files)["rows"] == []
