"""The steps of phase 2 in two processes: the answers, verdicts and rows of one, judged and paid once."""

import json
import os
import shutil
import signal
from pathlib import Path

import many
import pytest
import tiny_run
from judge_server import GOOD, Answer, Server, completion, judge_server
from safetensors.torch import load_file

from curr_reft.files import read_json

DDP = Path(__file__).parents[2] / "recipes" / "accelerate" / "ddp.yaml"
PARTS = ("--self_improvement.save_every", "8")


def in_one(*words: str | Path, log: Path) -> None:
    assert tiny_run.run(*words[1:], log=log, command=(str(words[0]),)) == 0, log.read_text()


def in_two(*words: str | Path, log: Path, launcher: list[str] | None = None) -> None:
    assert many.wait(many.start(*words, log=log, launcher=launcher)) == 0, log.read_text()


def assert_equal_files(two: Path, one: Path) -> None:
    ours, theirs = ({path.name: path.read_bytes() for path in each.glob("*.*")} for each in (two, one))
    assert {name for name in theirs if ours.get(name) != theirs[name]} <= {"verdicts.sqlite"}
    assert set(ours) == set(theirs)


def judge(server: Server) -> tuple[str, ...]:
    section = {"base_url": server.url, "model": "m", "api_key_env": None, "concurrency": 1}
    return ("--self_improvement.judge", json.dumps({"kind": "endpoint", "endpoint": section}))


def strict(item: str, *_: object) -> Answer:
    return Answer(body=completion(json.dumps({**GOOD, "total": 99 if len(item) % 2 else 10})))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_steps_alone(tmp_path: Path) -> None:
    one, two, log, recipe = tmp_path / "one", tmp_path / "two", tmp_path / "log", tiny_run.RECIPE
    accelerate = shutil.which("accelerate", path=str(tiny_run.PROGRAM.parent))
    assert accelerate is not None
    launcher = [accelerate, "launch", "--config_file", str(DDP), "--num_processes", "2"]
    launcher += ["--main_process_port", many.torchrun()[-1]]

    in_one("sample", "embedded", recipe, "--out", one, *PARTS, log=log)
    sampling = ("sample", "embedded", recipe, "--out", two, *PARTS)
    process = many.start(*sampling, log=log, launcher=launcher)
    many.until(process, lambda: any((two / "candidates").glob("part-*.parquet")), log)
    ranks = many.ranks(process)
    assert len(ranks) == 2
    for each in ranks.values():
        os.kill(each, signal.SIGKILL)
    assert many.wait(process) != 0
    assert not (two / "candidates.parquet").exists(), "it was killed too late to tell anything"
    in_two(*sampling, log=log, launcher=launcher)
    assert_equal_files(two, one)

    with judge_server(strict) as server:
        in_one("judge", one, "--recipe", recipe, *judge(server), log=log)
        asked = len(server.requests)
        in_two("judge", two, "--recipe", recipe, *judge(server), log=log)
        assert len(server.requests) == 2 * asked, "each process asked for itself"
        in_one("select", one, recipe, *judge(server), log=log)
        in_two("select", two, recipe, *judge(server), log=log)
    assert_equal_files(two, one)
    assert read_json(two / "account.json")["kept"] > 6

    for folder, carry_out in ((one, in_one), (two, in_two)):
        rows, out = folder / "kept.jsonl", folder.with_suffix(".sft")
        carry_out("sft", "embedded", recipe, "--rows", rows, "--out", out, log=log)
    ours, theirs = (load_file(each.with_suffix(".sft") / "sft/model/model.safetensors") for each in (two, one))
    assert max((ours[key] - theirs[key]).abs().max() for key in theirs) < 1e-4  # three updates of a rate of 1e-3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_rounds_of_a_run_with_a_judge_in_the_process(tmp_path: Path) -> None:
    """The judge answers in the main process alone while the other waits; nothing that it does is for all of them."""
    section = {"kind": "local", "local": {"model": {"path": "embedded", "threads": 1}, "max_new_tokens": 8}}
    flags = (
        *("--self_improvement.judge", json.dumps(section), "--self_improvement.rounds", "2"),
        *("--self_improvement.round_steps", "1", "--self_improvement.pools", "{math: {queries: 6, quota: 6}}"),
        *many.SHORT[: many.SHORT.index("--self_improvement")],
        *many.SHORT[many.SHORT.index("--self_improvement") + 2 :],
        *("--curriculum.total_steps", "2"),
    )
    log = tmp_path / "log"
    in_one("run", tiny_run.RECIPE, "--output", tmp_path / "one", *flags, log=log)
    in_two("run", tiny_run.RECIPE, "--output", tmp_path / "two", *flags, log=log)
    summaries = [tiny_run.untimed_summary(tmp_path / name) for name in ("two", "one")]
    assert summaries[0]["rounds"] == summaries[1]["rounds"]
    assert [row["candidates"] > 0 for row in summaries[0]["rounds"]] == [True, True]
    for folder in ("self-improve", "rounds/2/self-improve"):
        assert_equal_files(tmp_path / "two" / folder, tmp_path / "one" / folder)
