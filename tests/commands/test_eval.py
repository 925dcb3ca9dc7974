"""``curr-reft eval`` and ``curr-reft report`` on what a run left."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft.cli import main


def test_eval_gives_the_scores_of_the_run(finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "scores.json"
    words = ["eval", str(finished.path / "model"), str(tiny_run.RECIPE), "--json", str(out)]
    assert main([*words, "--split", "in_domain"]) == 0
    printed = capsys.readouterr().out
    scores = json.loads(out.read_text())["evaluation"]
    expected = json.loads((finished.path / "summary.json").read_text())["evaluation"]["curr_reft"]
    assert scores == {"in_domain": expected["in_domain"]}
    assert f"{expected['in_domain']['mean']['score']:.3f}" in printed
    assert main([*words, "--evaluation.items", "2"]) == 0
    scores = json.loads(out.read_text())["evaluation"]
    assert {suite: scores[suite]["math"]["n"] for suite in scores} == {"in_domain": 2, "out_of_domain": 2}


def test_eval_asks_the_general_pool_and_keeps_every_answer(
    finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the run did: the same scores, the same answers."""
    words = ["eval", str(finished.path / "model"), str(tiny_run.RECIPE)]
    assert main([*words, "--json", str(tmp_path / "scores.json"), "--answers", str(tmp_path / "answers")]) == 0
    printed = capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())
    summary = json.loads((finished.path / "summary.json").read_text())
    assert scores["evaluation"] == summary["evaluation"]["curr_reft"]
    assert scores["general"] == summary["general"]["curr_reft"] != {}
    assert "general pool" in printed
    for kind in ("predictions", "general"):
        rows, own = (
            [json.loads(line)["completion"] for line in path.read_text().splitlines()]
            for path in (
                tmp_path / "answers" / f"model.{kind}.jsonl",
                finished.path / "eval" / f"curr_reft.{kind}.jsonl",
            )
        )
        assert rows == own != []
    assert main([*words, "--split", "general"]) == 0
    printed = capsys.readouterr().out
    assert "general pool" in printed
    assert "in-domain" not in printed


def test_eval_refuses_a_model_that_is_not_there_and_a_split_without_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(tmp_path / "nothing"), str(tiny_run.RECIPE)]) == 2
    assert "neither a model folder nor a hub name" in capsys.readouterr().err
    empty = ["--data.shapes.ood_test", "{}"]
    assert main(["eval", "embedded", str(tiny_run.RECIPE), "--split", "out_of_domain", *empty]) == 2
    assert "error: " in capsys.readouterr().err


def test_report_writes_the_page_again(finished: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished.path, copy)
    before = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    assert main(["report", str(copy)]) == 0
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    assert (copy / "report.html").read_text() == before
    (copy / "summary.json").unlink()  # of a run that is not through
    assert main(["report", str(copy)]) == 0
