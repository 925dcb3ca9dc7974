"""Judging alone by the user's door: files of rows and candidates of a run, the cache, what is refused, calibration."""

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import GOOD, Answer, completion, judge_server
from PIL import Image

from curr_reft.cli import main
from curr_reft.files import read_json, read_jsonl
from curr_reft.improve.records import Candidate, candidate_row
from curr_reft.integrity import write_sealed
from curr_reft.parquet import write_rows
from curr_reft.policy.load import load_chat_processor
from curr_reft.prepare import load_items, prepare, query_pool
from curr_reft.questions.forms import FORMS
from curr_reft.recipe import load_recipe
from curr_reft.rewards.grading import grade

RECIPE = """\
name: judged
model: {threads: 1}
data: {shapes: {train: {math: 12}, validation: {math: 2}, test: {math: 2}, pool: {math: 12}}}
curriculum: {total_steps: 2, stages: [{name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base]}
self_improvement:
  pools: {math: {queries: 12, quota: 12}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def rows(path: Path, count: int, **more: Any) -> Path:
    lines = [
        {"id": f"r{n}", "prompt": f"how many? {n}", "completion": f"<answer> {n} </answer>", **more}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def endpoint(url: str) -> list[str]:
    section = {"kind": "endpoint", "endpoint": {"base_url": url, "model": "m", "api_key_env": None}}
    return ["--self_improvement.judge", json.dumps(section)]


def test_a_file_of_rows_is_judged_once(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    source, out = rows(tmp_path / "rows.jsonl", 6, images=["red.png"]), tmp_path / "out"
    words = ["judge", str(source), "--recipe", str(recipe), "--out", str(out)]
    with judge_server(lambda item, *_: Answer(body=completion("?")) if item == "4" else Answer()) as server:
        assert main([*words, *endpoint(server.url)]) == 0
        assert server.requests[0]["messages"][0]["content"][0]["type"] == "image_url"
        asked = len(server.requests)
        assert main([*words, *endpoint(server.url)]) == 0
        assert len(server.requests) == asked
        server.rule = lambda *_: Answer()
        found = read_jsonl(out / "verdicts.jsonl")
        assert [row["candidate_id"] for row in found] == [f"r{n}#0" for n in range(6)]
        assert found[4]["failure"].startswith("no JSON verdict")
        assert main([*words, "--retry-failed", *endpoint(server.url)]) == 0
    assert len(server.requests) == asked + 1
    assert [row["total"] for row in read_jsonl(out / "verdicts.jsonl")] == [GOOD["total"]] * 6
    assert read_json(out / "judge.json")["verdicts"] == 6
    assert "5 verdicts, 1 without (1 no JSON verdict)" in capsys.readouterr().out


@pytest.fixture
def sampled(recipe: Path, tmp_path: Path) -> Path:
    """A folder as ``sample`` leaves it: to every query a reasoned, a lucky and a wrong answer."""
    loaded = load_recipe(recipe)
    asked = query_pool(prepare(loaded, load_items(loaded), load_chat_processor(loaded.model).frame))
    made = []
    for question in asked:
        right = FORMS["open"].write(question)
        wrong = str(int(right) + 1)
        texts = (
            f"<think> so {right} </think> <answer> {right} </answer>",
            f"<think> i guess </think> <answer> {right} </answer>",
            f"<think> so {wrong} </think> <answer> {wrong} </answer>",
        )
        made += [
            Candidate(question=question, sample=n, completion=text, truncated=False, grade=grade(question, text))
            for n, text in enumerate(texts)
        ]
    candidates = tmp_path / "run" / "self-improve" / "candidates.parquet"
    write_rows(candidates, map(candidate_row, made))
    write_sealed(candidates.with_name("sampling.json"), {}, [candidates])
    (tmp_path / "run" / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "run"


def test_the_candidates_of_a_run_are_judged_by_its_recipe(sampled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(sampled)]) == 0
    totals = [row["total"] for row in read_jsonl(sampled / "self-improve" / "verdicts.jsonl")]
    assert totals == [100, 75, 75] * 12
    (sampled / "self-improve" / "account.json").write_text("{}")
    assert main(["judge", str(sampled)]) == 2
    assert "holds an account of what was selected by earlier verdicts" in capsys.readouterr().err
    assert main(["judge", str(sampled), "--out", str(sampled.parent / "again")]) == 0
    fewer = RECIPE.replace("pool: {math: 12}", "pool: {math: 5}").replace("queries: 12", "queries: 5")
    (sampled / "recipe.yaml").write_text(fewer)
    assert main(["judge", str(sampled), "--out", str(sampled.parent / "other")]) == 2
    assert "give the recipe that the answers were sampled with" in capsys.readouterr().err


def test_the_judge_of_a_run_is_calibrated_against_its_verifier(
    sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "calibration"
    assert main(["judge", "calibrate", str(sampled), "--out", str(out), "--repeats", "2"]) == 0
    found = read_json(out / "calibration.json")
    assert (found["rows"], found["verdicts"], found["threshold"]) == (36, 36, 85)
    assert found["agreement"]["accuracy"]["value"] == pytest.approx(2 / 3)  # the lucky answers are right and not kept
    assert found["agreement"]["wrong_kept"] == 0
    assert found["agreement"]["right_kept"] == 0.5
    assert found["consistency"]["one_side"]["value"] == 1
    assert found["length"]["padding"]["rows"] == 36
    page = (out / "calibration.md").read_text()
    assert page in capsys.readouterr().out
    assert "| of the wrong answers kept | 0.00 | |" in page


def test_a_budget_is_for_all_passes_of_a_calibration(recipe: Path, tmp_path: Path, capsys: Any) -> None:
    """A verdict costs 0.3 and at most some 4.5; 12 rows and three passes cost 10.8."""
    source = rows(tmp_path / "rows.jsonl", 12, correct=True)
    words = [
        "judge",
        "calibrate",
        str(source),
        "--recipe",
        str(recipe),
        "--out",
        str(tmp_path / "out"),
        "--repeats",
        "1",
    ]
    with judge_server() as server:
        flags = endpoint(server.url)
        prices = ["--self_improvement.judge.endpoint.prices", "{input: 1000, output: 10000}"]
        budget = "--self_improvement.judge.endpoint.budget"
        assert main([*words, *flags, *prices, budget, "9"]) == 1
        assert "the budget of 9 would be exceeded" in capsys.readouterr().err
        assert 12 < len(server.requests) < 24  # in the second pass
        assert main([*words, *flags, *prices, budget, "16"]) == 0
        assert len(server.requests) == 36
    assert "3 passes over 12 answers" in capsys.readouterr().out


def test_labelled_rows_calibrate_a_judge_behind_a_server(recipe: Path, tmp_path: Path) -> None:
    lines = [{"prompt": "?", "completion": f"<answer> {n} </answer>", "score": 95 if n % 2 else 20} for n in range(24)]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def rule(item: str, *_: Any) -> Answer:
        return Answer(body=completion(json.dumps({**GOOD, "total": 90 if int(item) % 2 else 30})))

    words = ["judge", "calibrate", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    with judge_server(rule) as server:
        assert main([*words, "--repeats", "2", "--items", "20", *endpoint(server.url)]) == 0
        asked = len(server.requests)
        assert main([*words, "--repeats", "2", "--items", "20", *endpoint(server.url)]) == 0
    assert asked == len(server.requests) == 20 * 4  # two repeats, padded, turned round
    found = read_json(tmp_path / "out" / "calibration.json")
    assert found["agreement"]["kappa"]["value"] == 1
    assert found["agreement"]["spearman"]["value"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "rows.jsonl:2: not JSON"),
        ('{"prompt": "?"}', "rows.jsonl:2: completion must be text that is not empty, not None"),
        ('{"prompt": "", "completion": "x"}', "rows.jsonl:2: prompt must be text that is not empty"),
        ('{"prompt": "?", "completion": "x"}', "rows.jsonl:2: has no label; give correct (true or false) or score"),
        ('{"prompt": "?", "completion": "x", "correct": 1}', "rows.jsonl:2: correct must be true or false, not 1"),
        (
            '{"prompt": "?", "completion": "x", "score": 101}',
            "score must be a number from 0 to 100, not 101",
        ),
        ('{"prompt": "?", "completion": "x", "score": NaN}', "score must be a number from 0 to 100, not nan"),
        ('{"prompt": "?", "completion": "x", "correct": true, "images": "a.png"}', "images must be a list of paths"),
        ('{"prompt": "?", "completion": "x", "correct": true, "images": ["../a.png"]}', "holds .."),
        ('{"prompt": "?", "completion": "x", "correct": true, "images": ["a.png"]}', "does not exist under"),
        ('{"id": "line 1", "prompt": "?", "completion": "x", "correct": true}', "id 'line 1#0' stands 2 times"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_by_line(
    line: str, message: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"prompt": "?", "completion": "x", "correct": true}\n' + line + "\n")
    words = ["judge", "calibrate", str(source), "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["judge", "missing"], "missing holds no candidates.parquet and is no file of rows"),
        (["judge", "ROWS"], "is not the directory of a run; give the recipe with --recipe"),
        (["judge", "ROWS", "--recipe", "RECIPE"], "say with --out in which folder the verdicts belong"),
        (["judge", "ROWS", "--recipe", "RECIPE", "--out", "o", "--self_improvement", "null"], "has no such section"),
        (["judge", "calibrate", "ROWS", "--recipe", "RECIPE", "--out", "o", "--repeats", "0"], "must be at least 1"),
        (["judge", "calibrate", "ROWS", "--recipe", "RECIPE", "--out", "o", "--precision", "95"], "between 0 and 1"),
        (["judge", "calibrate", "ROWS", "--recipe", "RECIPE", "--out", "o"], "set kind to endpoint or local"),
        (["judge", "ROWS", "--recipe", "RECIPE", "--out", "o"], "have none; set kind to endpoint or local"),
        (
            ["judge", "ROWS", "--recipe", "RECIPE", "--out", "o", "--self_improvement.judge.kind", "endpoint"],
            "endpoint needs the section endpoint",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_refused(
    words: list[str],
    message: str,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"ROWS": str(rows(tmp_path / "rows.jsonl", 12, correct=True)), "RECIPE": str(recipe)}
    assert main([names.get(word, word) for word in words]) == 2
    assert message in capsys.readouterr().err


def test_a_judge_that_cannot_be_read_fails_the_command(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At once, and where all is known to have failed: exit code 1, what it wrote, and how it is asked again."""
    source, out = rows(tmp_path / "rows.jsonl", 9), tmp_path / "out"
    words = ["judge", str(source), "--recipe", str(recipe), "--out", str(out)]
    bad = Answer(body=completion(json.dumps({"accuracy": 90, "why": "\x1b[31mred"})))
    with judge_server(lambda *_: bad) as server:
        for known in (3, 6, 9):
            assert main([*words, *endpoint(server.url)]) == 1
            assert len(server.requests) == 2 * known
            error = capsys.readouterr().err
            assert "missing score: logic" in error
            assert "--retry-failed" in error
            assert "\x1b" not in error
            assert "red" in error
        assert main([*words, *endpoint(server.url)]) == 1  # nothing is left to ask
        assert "none of 9 answers got a verdict" in capsys.readouterr().err
        assert len(server.requests) == 18
        assert all("why" in row["reply"] for row in read_jsonl(out / "verdicts.jsonl"))
        server.rule = lambda *_: Answer()
        assert main([*words, "--retry-failed", *endpoint(server.url)]) == 0
    assert read_json(out / "judge.json")["verdicts"] == 9
