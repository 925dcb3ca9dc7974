"""A finished run that is asked for more goes on, and ends with the files of one that was asked from the start."""

import json
import signal
from pathlib import Path

import many
import pytest
import tiny_run

from curr_reft.cli import main

FLAGS = (
    *many.SHORT,
    *("--model.lora", "{rank: 1}", "--curriculum.total_steps", "2", "--checkpoint.every", "1", "--sft", "null"),
)
MORE = ("--sft", "{steps: 2, batch_size: 2}", "--evaluation.models", "[base, sft, curr_rl]")
OTHERWISE = ("--sft", "{steps: 2, batch_size: 2}", "--evaluation.models", "[base, sft]")
REFUSED = 2  # exit code


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_finished_run_is_asked_for_more_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, whole, log = tmp_path / "run", tmp_path / "whole", tmp_path / "log"
    assert tiny_run.run("--output", run, *FLAGS, log=log) == 0, log.read_text()
    assert tiny_run.run("--output", whole, *FLAGS, *MORE, log=log) == 0, log.read_text()
    before = {name: path.read_bytes() for name, path in tiny_run.files(run).items() if name.startswith("stages/")}

    assert main(["run", str(tiny_run.RECIPE), "--output", str(run), *FLAGS, *OTHERWISE, "--resume"]) == REFUSED
    assert 'evaluation.models: ["curr_rl"] -> ["base", "sft"]' in capsys.readouterr().err

    # Killed on the way: asked again with the same recipe, it goes on.
    process = tiny_run.start("--output", run, *FLAGS, *MORE, "--resume", log=log)
    assert tiny_run.end_when(process, (run / "eval" / "base.json").exists) == -signal.SIGKILL
    assert tiny_run.run("--output", run, *FLAGS, *MORE, "--resume", log=log) == 0, log.read_text()
    tiny_run.assert_same(run, whole)
    assert {name: (run / name).read_bytes() for name in before} == before
    (extended,) = json.loads((run / "run.json").read_text())["extended"]
    assert 'evaluation.models: ["curr_rl"] -> ["base", "sft", "curr_rl"]' in extended["changes"]
