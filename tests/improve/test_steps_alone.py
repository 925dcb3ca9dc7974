"""The steps of phase 2 by their own commands: kill -9 while sampling, then judge, select, fine-tune."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft.files import read_json, read_jsonl
from curr_reft.policy.load import load_policy
from curr_reft.status import read_status

PARTS = ("--self_improvement.save_every", "3")


def carried_out(*words: str | Path, log: Path) -> str:
    assert tiny_run.run(*words[1:], log=log, command=(str(words[0]),)) == 0, log.read_text()
    return log.read_text()


def sampling(out: Path) -> tuple[str | Path, ...]:
    return ("sample", "embedded", tiny_run.RECIPE, "--out", out, *PARTS)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of the base to the queries of the tiny recipe, never interrupted."""
    folder = tmp_path_factory.mktemp("sampled")
    carried_out(*sampling(folder / "out"), log=folder / "log")
    return folder / "out"


def test_killed_while_sampling_it_goes_on_to_the_same_answers(sampled: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    before: dict[str, bytes] = {}
    for count in (1, 7):

        def seen(count: int = count) -> bool:
            return len(list((out / "candidates").glob("part-*.parquet"))) >= count

        process = tiny_run.start(*sampling(out)[1:], log=log, command=("sample",))
        assert tiny_run.end_when(process, seen) == -signal.SIGKILL
        parts = {path.name: path.read_bytes() for path in (out / "candidates").glob("part-*.parquet")}
        assert before.items() <= parts.items(), "a part that was there was sampled again to something else"
        before = parts
    carried_out(*sampling(out), log=log)
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} for folder in (sampled, out))
    assert first == second
    assert set(first) == {"candidates.parquet", "sampling.json"}


def test_the_rest_of_the_phase_by_its_commands(sampled: Path, tmp_path: Path) -> None:
    log, recipe = tmp_path / "log", tiny_run.RECIPE
    assert tiny_run.run(sampled, recipe, log=log, command=("select",)) == 2
    assert "curr-reft judge writes it" in log.read_text()
    carried_out("judge", sampled, "--recipe", recipe, log=log)
    carried_out("select", sampled, recipe, log=log)
    account = read_json(sampled / "account.json")
    rows = read_jsonl(sampled / "kept.jsonl")
    assert len(rows) == account["kept"] > 0
    assert account["sampling"]["drawn"] == 48 * 6
    out = tmp_path / "sft"
    share = ("--self_improvement.sft.validation_share", "0.2")
    carried_out("sft", "embedded", recipe, "--rows", sampled / "kept.jsonl", "--out", out, *share, log=log)
    assert load_policy(str(out / "sft" / "model")) is not None
    status = read_status(out)  # of this step, and not of a whole run
    assert (status.alone, status.state, status.phase) == ("sft", "done", "nothing, the run is finished")
    assert [(each.run, each.state, each.step) for each in status.trainings] == [("sft", "done", 3)]
    assert status.last_save is not None
    assert (status.last_save.stage, status.last_save.step) == ("sft", 3)
    assert tiny_run.run("--output", out, "--resume", log=log) == 2
    assert "is the directory of curr-reft sft, which made one step by itself" in log.read_text()
    assert tiny_run.run(sampled, log=log, command=("status",)) == 2
    assert "holds what sample, judge and select leave" in log.read_text()
    seen: list[dict[str, Any]] = [row for row in tiny_run.rows(out) if row["kind"] == "validation"]
    assert all(row["loss"] > 0 and set(row["general"]) == {"arithmetic", "yes_no"} for row in seen)
    assert seen[0]["loss"] != seen[-1]["loss"]
    chosen = json.loads((out / "sft" / "manifest.json").read_text())["chosen_step"]
    assert chosen == max(seen, key=lambda row: (row["accuracy"], row["score"], -row["step"]))["step"]
    ruinous = ("--self_improvement.sft.optimizer.lr", "0.1", "--self_improvement.sft.hand_on", "last")
    carried_out(
        "sft", "embedded", recipe, "--rows", sampled / "kept.jsonl", "--out", tmp_path / "last", *ruinous, log=log
    )
    first, *_, last = [row for row in tiny_run.rows(tmp_path / "last") if row["kind"] == "validation"]
    assert (last["accuracy"], last["score"]) < (first["accuracy"], first["score"])
    assert json.loads((tmp_path / "last" / "sft" / "manifest.json").read_text())["chosen_step"] == last["step"] > 0


def test_answers_or_verdicts_that_were_changed_are_not_selected_from(sampled: Path, tmp_path: Path) -> None:
    folder, log, recipe = tmp_path / "answers", tmp_path / "log", tiny_run.RECIPE
    shutil.copytree(sampled, folder)
    (folder / "account.json").unlink(missing_ok=True)
    carried_out("judge", folder, "--recipe", recipe, log=log)
    for name in ("verdicts.jsonl", "judge.json", "candidates.parquet", "sampling.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content.replace(b"1", b"2", 1))
        for words in (("select", folder, recipe), ("judge", folder, "--recipe", recipe)):
            if words[0] == "judge" and name in ("verdicts.jsonl", "judge.json"):
                continue  # which it writes anew
            assert tiny_run.run(*words[1:], log=log, command=(str(words[0]),)) == 2, log.read_text()
            assert f"{folder / name} " in log.read_text().splitlines()[-1]
        (folder / name).write_bytes(content)
    carried_out("select", folder, recipe, log=log)


def test_answers_that_are_too_long_to_learn_are_counted_when_they_are_selected(sampled: Path, tmp_path: Path) -> None:
    folder, log, recipe = tmp_path / "answers", tmp_path / "log", tiny_run.RECIPE
    shutil.copytree(sampled, folder)
    (folder / "account.json").unlink(missing_ok=True)
    carried_out("judge", folder, "--recipe", recipe, log=log)
    short = ("--self_improvement.sft.max_length", "42")
    carried_out("select", folder, recipe, *short, log=log)
    account = read_json(folder / "account.json")
    domains = account["by_domain"]
    assert account["kept"] > 0
    assert sum(domain["fates"]["too_long"] for domain in domains.values()) > 0
    assert all(sum(domain["fates"].values()) == domain["candidates"] for domain in domains.values())
    carried_out("sft", "embedded", recipe, "--rows", folder / "kept.jsonl", "--out", tmp_path / "sft", *short, log=log)


def test_answers_of_another_recipe_are_not_selected_from(sampled: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "answers", tmp_path / "log"
    shutil.copytree(sampled, folder)
    (folder / "judge.json").write_text("{}")
    other = ("--data.shapes.seed", "7")
    assert tiny_run.run(folder, tiny_run.RECIPE, *other, log=log, command=("select",)) == 2
    assert "give the recipe that the answers were sampled with" in log.read_text()
