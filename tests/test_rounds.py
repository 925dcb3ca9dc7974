"""Two rounds by the user's door: each has its rows, its queries, its models; every command knows them by name."""

import json
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from judge_server import GOOD, Answer, Server, completion, judge_server
from resealing import reseal

from curr_reft import rounds
from curr_reft.cli import main
from curr_reft.compare import compare, lines
from curr_reft.errors import UsageError
from curr_reft.export.source import RunModel, find_source
from curr_reft.files import read_json, read_jsonl
from curr_reft.judging import source as judging_source
from curr_reft.parquet import read_rows
from curr_reft.planned import planned_phases
from curr_reft.recipe import load_recipe
from curr_reft.report.read import in_order, label_of
from curr_reft.run_plan import plan
from curr_reft.status import read_status
from curr_reft.train.publish import read_published, weights_hash

SMALL = (
    *("--curriculum.stages", "[{name: open, forms: {open: 1}, steps: rest}]", "--curriculum.total_steps", "2"),
    *("--curriculum.validation_items", "2", "--evaluation.items", "2", "--evaluation.bootstrap", "100"),
    *("--evaluation.profile", "{items: 10, samples: 1}", "--evaluation.models", "[base, curr_rl, curr_reft]"),
    *("--self_improvement.pools", "{math: {queries: 6, quota: 6}, arithmetic: {queries: 6, quota: 6}}"),
    *("--self_improvement.samples", "4", "--self_improvement.sft.steps", "2"),
    *("--self_improvement.rounds", "2", "--self_improvement.round_steps", "1"),
)
MODELS = ("base", "curr_rl", "curr_reft", "curr_rl_round_2", "curr_reft_round_2")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds, never interrupted. Tests do not change it."""
    folder = tmp_path_factory.mktemp("twice")
    assert tiny_run.run("--output", folder / "run", *SMALL, log=folder / "log") == 0, (folder / "log").read_text()
    return folder / "run"


def test_names_of_rounds_go_both_ways() -> None:
    for name in ("curr_rl", "curr_reft", "self_improvement"):
        for number in (1, 2, 10):
            assert rounds.parted(rounds.named(name, number)) == (name, number)
    for name in ("base", "curr_rl_round_1", "curr_rl_round_02", "rl_round_2", "curr_rl_round_", "curr_reft_round_2x"):
        assert rounds.parted(name) == (name, 1)
    names = ["mine", *(rounds.named(name, number) for number in (10, 2, 1) for name in ("curr_reft", "curr_rl"))]
    assert in_order(names) == [
        *("curr_rl", "curr_reft", "curr_rl_round_2", "curr_reft_round_2", "curr_rl_round_10", "curr_reft_round_10"),
        "mine",
    ]
    assert label_of("curr_reft_round_10") == "Curr-ReFT, round 10"


def test_folders_of_rounds(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        rounds.improve_folder(tmp_path, number).mkdir(parents=True)
    assert rounds.begun(tmp_path) == [2, 10]
    assert rounds.earlier(rounds.improve_folder(tmp_path, 10)) == [rounds.improve_folder(tmp_path, n) for n in (1, 2)]
    assert rounds.earlier(rounds.improve_folder(tmp_path, 1)) == []
    assert rounds.earlier(tmp_path / "elsewhere" / "2" / "self-improve") == []


def test_each_round_starts_from_what_the_one_before_came_to(twice: Path) -> None:
    before = None
    for folder in (twice / "stages/01-open", twice / "self-improve", *sorted((twice / "rounds/2").iterdir())):
        published = read_published(folder)
        assert published is not None, folder
        assert before is None or published.record["start_sha256"] == before
        before = published.weights_sha256
    assert weights_hash(twice / "model") == before


def test_the_summary_has_a_row_for_each_round(twice: Path) -> None:
    summary = read_json(twice / "summary.json")
    assert tuple(summary["evaluation"]) == tuple(summary["general"]) == MODELS
    first, second = summary["rounds"]
    assert (first["round"], second["round"]) == (1, 2)
    assert first["stage"] is None
    assert (second["stage"]["name"], second["stage"]["form"], second["stage"]["steps"]) == ("round-2-open", "open", 1)
    assert summary["self_improvement"] == {key: first[key] for key in ("queries", "candidates", "kept", "threshold")}
    for number, row in enumerate(summary["rounds"], start=1):
        account = read_json(rounds.improve_folder(twice, number) / "account.json")
        assert (row["candidates"], row["kept"]) == (account["candidates"], account["kept"])
        assert row["kept"] == len(read_jsonl(rounds.improve_folder(twice, number) / "kept.jsonl")) > 0


def test_queries_are_drawn_anew(twice: Path) -> None:
    asked = [
        {row["question"] for row in read_rows(rounds.improve_folder(twice, n) / "candidates.parquet")} for n in (1, 2)
    ]
    assert len(asked[0]) == len(asked[1]) == 12
    assert asked[0] != asked[1]


def test_every_step_of_both_rounds_is_in_the_metrics_once(twice: Path) -> None:
    rows = tiny_run.rows(twice)
    trained = Counter((row["run"], row["stage"]) for row in rows if row["kind"] == "train")
    assert trained == {
        ("curr_rl", "01-open"): 2,
        ("self_improvement", "self_improvement"): 2,
        ("curr_rl", "round-2-open"): 1,
        ("self_improvement_round_2", "self_improvement_round_2"): 2,
    }


def test_the_page_and_the_card_tell_both_rounds(twice: Path) -> None:
    page, card = (twice / "report.html").read_text(), (twice / "README.md").read_text()
    for text in (page, card):
        for label in ("Curr-RL, round 2", "Curr-ReFT, round 2", "rounds/2/open", "rounds/2/self-improve"):
            assert label in text, label
    table = page.split('aria-label="Rounds of self-improvement"')[1].split("</table>")[0]
    assert [row.split("<")[0] for row in table.split('<th scope="row">')[1:]] == ["1", "2"]
    assert page.count("<h2>Self-improvement") == 2
    assert "<h2>Self-improvement, round 2</h2>" in page
    answers = page.split("<h2>Answers, side by side</h2>")[1].split("<h2>")[0]
    assert '<span class="label">Curr-ReFT, round 2</span>' in answers  # the last model, not the last by its letters
    assert "Curr-RL" not in answers
    assert "self_improvement" not in page.split("<details>")[0]  # names of files and phases are for programs
    assert "Self-improvement, round 2: 12 queries asked" in card


def test_status_tells_the_round(twice: Path) -> None:
    status = read_status(twice)
    assert [(each.run, each.stage, each.state, each.budget) for each in status.trainings] == [
        ("curr_rl", "01-open", "done", 2),
        ("self_improvement", "self_improvement", "done", 2),
        ("curr_rl", "round-2-open", "done", 1),
        ("self_improvement_round_2", "self_improvement_round_2", "done", 2),
    ]
    assert status.last_save is not None
    assert (status.last_save.stage, status.last_save.step) == ("rounds/2/self-improve", 2)
    planned = planned_phases(load_recipe(twice / "recipe.yaml"))
    phases = ("eval/base", "curr_rl/01-open", "eval/curr_rl", "self_improvement/self_improvement")
    done: dict[str, Any] = {phase: {} for phase in phases}
    now, trainings = plan(planned, done, {}, "report")
    assert now == "eval/curr_reft"
    assert [each.state for each in trainings] == ["done", "done", "waiting", "waiting"]
    now, trainings = plan(planned, {**done, "eval/curr_reft": {}}, {("curr_rl", "round-2-open"): 1}, "report")
    assert now == "curr_rl/round-2-open"
    assert [(each.state, each.budget) for each in trainings[2:]] == [("now", 1), ("waiting", 2)]
    nothing_kept = {**done, "curr_rl/round-2-open": {}, "eval/curr_rl_round_2": {}, "eval/curr_reft_round_2": {}}
    assert plan(planned, nothing_kept, {}, "report")[1][3].state == "left out"


def test_every_model_of_a_run_has_a_name_and_the_last_is_final(twice: Path) -> None:
    folders = {
        "curr_rl": "stages/01-open",
        "curr_reft": "self-improve",
        "curr_rl_round_2": "rounds/2/open",
        "curr_reft_round_2": "rounds/2/self-improve",
    }
    for name, folder in folders.items():
        found = find_source(twice, name)
        assert isinstance(found, RunModel)
        assert (found.name, found.weights) == (name, twice / folder / "model")
    assert find_source(twice) == find_source(twice, "curr_reft_round_2")
    with pytest.raises(UsageError, match="published no model curr_rl_round_3; published are: curr_reft_round_2, curr"):
        find_source(twice, "curr_rl_round_3")
    with pytest.raises(UsageError, match=r"the models of a run are final, .*, curr_reft_round_2, curr_rl_round_2"):
        find_source(twice, "curr_reft_round_02")


def test_a_last_round_that_kept_nothing_leaves_its_own_rl_as_final(twice: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(twice, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints", "rollouts")))
    (run / "rounds/2/self-improve/manifest.json").unlink()
    found = find_source(run)
    assert isinstance(found, RunModel)
    assert found.name == "curr_rl_round_2"


def test_the_commands_take_a_model_of_a_run_by_its_name(twice: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["merge", str(twice), "--model", "curr_rl_round_2", "--out", str(tmp_path / "merged")]) == 0
    assert "# tiny, Curr-RL, round 2" in (tmp_path / "merged" / "README.md").read_text()
    assert main(["push", str(twice), "--model", "curr_reft_round_2", "--repo", "me/mine", "--dry-run"]) == 0
    flags = ["--split", "in_domain", "--json", str(tmp_path / "scores.json"), "--evaluation.items", "2"]
    assert main(["eval", str(twice), str(twice / "recipe.yaml"), "--variant", "curr_rl_round_2", *flags]) == 0
    scores = read_json(tmp_path / "scores.json")
    expected = read_json(twice / "summary.json")["evaluation"]["curr_rl_round_2"]["in_domain"]
    assert scores["evaluation"]["in_domain"]["mean"]["score"] == expected["mean"]["score"]
    assert scores["model"].endswith("rounds/2/open/model")
    assert "Loading weights" not in capsys.readouterr().err
    assert main(["eval", str(twice), str(twice / "recipe.yaml"), "--variant", "rll"]) == 2
    assert "--variant rll: the models of a run are final, curr_reft, curr_rl, rl, sft, " in capsys.readouterr().err
    assert main(["eval", "embedded", str(twice / "recipe.yaml"), "--variant", "rl"]) == 2
    assert "--variant rl is for run directories" in capsys.readouterr().err


def test_answers_of_the_last_round_are_those_judged_and_calibrated_by_default(twice: Path) -> None:
    found = judging_source.find_source(twice)
    assert found.folder == twice / "rounds/2/self-improve"
    assert judging_source.recipe_of(found) == twice / "recipe.yaml"
    assert judging_source.recipe_of(judging_source.find_source(found.folder)) == twice / "recipe.yaml"


def test_what_the_first_round_cost_counts_when_the_second_is_judged_alone(
    twice: Path, tmp_path: Path, capsys: Any
) -> None:
    files = [f"{folder}/{name}" for folder in ("self-improve", "rounds/2/self-improve")
             for name in ("candidates.parquet", "sampling.json")]  # fmt: skip
    for name in ("recipe.yaml", *files):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(twice / name, tmp_path / name)
    with judge_server() as server:
        section = {"base_url": server.url, "model": "m", "api_key_env": None, "prices": {"input": 1000, "output": 0}}

        def judge(folder: Path, **more: float) -> int:
            kind = json.dumps({"kind": "endpoint", "endpoint": section | more})
            words = ["--recipe", str(tmp_path / "recipe.yaml"), "--self_improvement.judge", kind]
            return main(["judge", str(folder), *words])

        assert judge(tmp_path / "self-improve") == 0
        spent, asked = read_json(tmp_path / "self-improve/judge.json")["cost"], len(server.requests)
        assert judge(tmp_path, budget=spent) == 1
        assert len(server.requests) == asked
    assert f"the budget of {spent:g} would be exceeded ({spent:.2f} spent" in capsys.readouterr().err


@pytest.mark.slow
def test_a_single_kept_answer_is_learned_and_none_is_held_out(tmp_path: Path) -> None:
    words = (*SMALL[: SMALL.index("--self_improvement.pools")], "--self_improvement.sft.validation_share", "0.5")
    pool = ("--self_improvement.pools", "{math: {queries: 12, quota: 1}}")
    assert tiny_run.run("--output", tmp_path / "run", *words, *pool, log=tmp_path / "log") == 0
    assert read_json(tmp_path / "run/self-improve/account.json")["kept"] == 1
    assert "the one answer kept is learned" in (tmp_path / "log").read_text()
    assert read_json(tmp_path / "run/self-improve/manifest.json")["steps"] > 0


def test_compare_has_a_row_for_each_round_and_says_what_it_added(twice: Path, tmp_path: Path) -> None:
    given = load_recipe(twice / "recipe.yaml", ["--output", str(twice)])
    found = compare([given], tmp_path, lambda _: None)  # a finished run is only read
    assert tuple(found["models"]) == MODELS
    assert found["updates"] == {
        "base": [0], "curr_rl": [2], "curr_reft": [4], "curr_rl_round_2": [5], "curr_reft_round_2": [7]
    }  # fmt: skip
    assert list(found["differences"]) == [
        "curr_reft - curr_rl",
        "curr_rl_round_2 - curr_reft",
        "curr_reft_round_2 - curr_reft",
    ]
    assert len({line.index(".") for line in lines(found)[2:7]}) == 1  # long names push no column aside


def judged_slowly(item: str, *_: Any) -> Answer:
    total = 99 if sum(item.encode()) % 3 else 40
    return Answer(body=completion(json.dumps({**GOOD, "total": total})), delay=0.02)


def flags(server: Server) -> tuple[str, ...]:
    section: dict[str, Any] = {"base_url": server.url, "model": "m", "api_key_env": None, "concurrency": 1}
    section |= {"prices": {"input": 1, "output": 1}, "budget": 100}
    return (*SMALL, "--self_improvement.judge", json.dumps({"kind": "endpoint", "endpoint": section}))


def verdicts(run: Path) -> dict[bytes, Any]:
    with sqlite3.connect(f"file:{run / 'self-improve' / 'verdicts.sqlite'}?mode=ro", uri=True) as db:
        return {row[0]: row[1:] for row in db.execute("SELECT * FROM verdicts")}


def of_round_2(run: Path, name: str) -> bool:
    return any(row["stage"] == name and row["kind"] == "train" for row in tiny_run.rows(run))


SECOND = Path("rounds") / "2"
MOMENTS: dict[str, Callable[[Path, int], bool]] = {
    "reinforcement learning": lambda run, _: of_round_2(run, "round-2-open"),
    "the evaluation after it": lambda run, _: (run / SECOND / "open" / "manifest.json").exists(),
    "sampling": lambda run, _: any((run / SECOND / "self-improve" / "candidates").glob("part-*")),
    "judging": lambda run, known: (
        (run / SECOND / "self-improve/candidates.parquet").exists() and len(verdicts(run)) >= known + 3
    ),
    "fine-tuning": lambda run, _: of_round_2(run, "self_improvement_round_2"),
    "the last evaluation": lambda run, _: (run / SECOND / "self-improve" / "manifest.json").exists(),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_second_round_killed_in_every_phase_ends_where_an_unbroken_one_ends(tmp_path: Path) -> None:
    """With a judge behind a server: what the first round has paid for, and what was judged before a kill, is not asked
    again."""
    whole, run, log = tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    with judge_server(judged_slowly) as server:
        words = (*flags(server), "--self_improvement.save_every", "4")
        assert tiny_run.run("--output", whole, *words, log=log) == 0, log.read_text()
        requests = len(server.requests)
        known = read_json(whole / "self-improve" / "judge.json")["asked"]
        assert read_json(whole / SECOND / "self-improve" / "judge.json")["from_cache"] > 0
        for name, seen in MOMENTS.items():
            process = tiny_run.start("--output", run, "--resume", *words, log=log)
            code = tiny_run.end_when(process, lambda seen=seen: seen(run, known))  # type: ignore[misc]
            assert code == -signal.SIGKILL, f"{name}: {log.read_text()}"
        assert tiny_run.run("--output", run, "--resume", *words, log=log) == 0, log.read_text()
        again = len(server.requests) - requests
    assert requests <= again <= requests + 2  # one under way when it was killed
    assert verdicts(run) == verdicts(whole)
    for folder in (run, whole):
        (folder / "self-improve" / "verdicts.sqlite").unlink()
        for number in (1, 2):  # how often a judge was asked in the last of several processes is that process's affair
            improve = rounds.improve_folder(folder, number)
            judging = read_json(improve / "judge.json")
            account = read_json(improve / "account.json")
            for each in (judging, account["judging"]):
                each |= dict.fromkeys(("requests", "from_cache", "asked", "json_schema"))
            del account["files"]["judge.json"]
            reseal(improve / "judge.json", **judging)
            reseal(improve / "account.json", **account)
    tiny_run.assert_same(run, whole)
    assert len(read_json(run / "run.json")["resumed"]) == len(MOMENTS)
