"""``curr-reft data difficulty`` by the user's door: what it writes, that it goes on after kill -9, what it refuses."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import tiny_run

from curr_reft.parquet import read_rows

WORDS = ("data", "difficulty", "embedded", tiny_run.RECIPE, "--samples", "4", "--sampling.rows_at_once", "32")
RESULTS = ("difficulty.json", "difficulty.svg", "questions.parquet")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An uninterrupted measurement: (its folder, its output)."""
    folder = tmp_path_factory.mktemp("difficulty")
    code = tiny_run.run("--out", folder / "whole", log=folder / "log", command=WORDS)
    assert code == 0, (folder / "log").read_text()
    return folder / "whole", (folder / "log").read_text()


def test_it_writes_a_row_a_question_and_tells_the_forms_apart(whole: Any) -> None:
    out, output = whole
    assert {path.name for path in out.iterdir()} == {*RESULTS, "cache.sqlite"}
    rows = read_rows(out / "questions.parquet")
    assert len(rows) == 3 * 3 * 12
    assert set(rows[0]) == {
        "question", "origin", "task", "form", "n", "passes", "rate", "low", "high", "accuracy"
    }  # fmt: skip
    for row in rows:
        assert row["question"] == f"{row['origin']}/{row['form']}"
        assert (row["n"], row["rate"]) == (4, row["passes"] / 4)
        assert 0 <= row["low"] <= row["rate"] <= row["high"] <= 1
    result = json.loads((out / "difficulty.json").read_text())
    assert len(result["cells"]) == 9
    for cell in result["cells"]:
        own = [row["rate"] for row in rows if (row["form"], row["task"]) == (cell["form"], cell["task"])]
        assert cell["pass_rate"] == pytest.approx(sum(own) / 12)
        assert f"{cell['form']:8}{cell['task']}" in output
    assert sorted(form["form"] for form in result["forms"]) == ["binary", "choice", "open"]
    assert result["forms"][0]["form"] == "binary"  # yes or no is the easiest for any base: half is chance
    assert output.count(" over ") == 2
    assert output.count("intervals ") == 2


def test_the_picture_is_one_svg_with_text_and_colours_for_both_pages(whole: Any) -> None:
    text = (whole[0] / "difficulty.svg").read_text()
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    words = " ".join(root.itertext())
    for word in ("binary, detection", "open, math", "chance", "right answers of 4", "Pass rates of embedded on train"):
        assert word in words
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text


def test_killed_at_any_moment_it_goes_on_and_ends_the_same(whole: Any, tmp_path: Path) -> None:
    out, log = tmp_path / "killed", tmp_path / "log"
    cache = out / "cache.sqlite"
    reached = 0
    for _ in range(2):
        process = tiny_run.start("--out", out, log=log, command=WORDS)
        tiny_run.end_when(process, lambda before=reached: tiny_run.measured_answers(cache) > before)
        reached = tiny_run.measured_answers(cache)
    assert 0 < reached < 432
    assert reached % 32 == 0  # whole batches
    assert not (out / "difficulty.json").exists()
    assert tiny_run.run("--out", out, log=log, command=WORDS) == 0, log.read_text()
    assert f"{432 - reached} of 432 answers are not in cache.sqlite yet" in log.read_text()
    for name in RESULTS:
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes(), name


def test_a_second_time_nothing_is_asked(whole: Any, tmp_path: Path) -> None:
    cache = whole[0] / "cache.sqlite"
    before = cache.read_bytes()
    flags = ("--out", tmp_path / "again", "--cache", cache, "--forms", "open,binary")
    log = tmp_path / "log"
    assert tiny_run.run(*flags, log=log, command=WORDS) == 0, log.read_text()
    assert "answers" not in log.read_text()
    assert cache.read_bytes() == before
    again = {row["question"]: row for row in read_rows(tmp_path / "again" / "questions.parquet")}
    assert {row["form"] for row in again.values()} == {"binary", "open"}
    for row in read_rows(whole[0] / "questions.parquet"):
        assert again.get(row["question"], row) == row


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--samples", "0"], "--samples 0: must be at least 1"),
        (["--forms", "binery"], "'binery' is no form; forms are binary, choice, open"),
        (["--split", "tests"], "--split tests: no question in these forms; the recipe's data holds"),
        (["--cache", str(tiny_run.RECIPE)], "tiny.yaml cannot be used as a file of measured answers"),
    ],
)
def test_a_wrong_flag_is_refused(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from curr_reft.cli import main

    assert main([*map(str, WORDS), *flags, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
