"""One process of two is lost, told to end, or fails: both end soon, not with 0, and the cause is said once."""

import json
import os
import signal
import time
from pathlib import Path

import many
import pytest
import tiny_run

from curr_reft.train import checkpoint as checkpoints

FLAGS = (*many.SHORT, "--curriculum.total_steps", "200", "--checkpoint.every", "50")
SOON = 30.0  # seconds from the fault to the end of all

FAULTY = """
import os, sys
from curr_reft import cli
if os.environ["RANK"] == sys.argv.pop(1):
    import curr_reft.train.grpo as grpo
    rollout, calls = grpo.rollout, []
    def fail(*arguments, **options):
        calls.append(0)
        if len(calls) == 3:
            {before}
            raise {error}("a fault of " + "this process alone")
        return rollout(*arguments, **options)
    grpo.rollout = fail
sys.exit(cli.main(sys.argv[1:]))
"""


def trained(run: Path) -> bool:
    return sum(row["kind"] == "train" for row in tiny_run.rows(run)) >= 3


@pytest.mark.parametrize(
    ("rank", "how", "said"),
    [
        (1, signal.SIGKILL, "process 1 of the 2 of this run ended without saying why"),
        pytest.param(
            0, signal.SIGKILL, "process 0 of the 2 of this run ended without saying why", marks=pytest.mark.slow
        ),
    ],
)
def test_one_is_killed(tmp_path: Path, rank: int, how: signal.Signals, said: str) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    process = many.start("run", tiny_run.RECIPE, "--output", run, *FLAGS, log=log)
    many.until(process, lambda: trained(run), log)
    both = many.ranks(process)
    assert set(both) == {0, 1}
    killed = time.monotonic()
    os.kill(both[rank], how)
    assert many.wait(process) != 0
    assert time.monotonic() - killed < SOON
    assert not [each for each in both.values() if Path(f"/proc/{each}").exists()]
    ours = [line for line in log.read_text().splitlines() if line.startswith(("error:", "interrupted"))]
    assert len(ours) == 1, log.read_text()
    assert said in ours[0]
    if rank != 0:
        assert json.loads((run / "run.json").read_text())["state"] in ("failed", "interrupted")


@pytest.mark.parametrize(
    "told", [(1,), pytest.param((0,), marks=pytest.mark.slow), pytest.param((0, 1), marks=pytest.mark.slow)]
)
def test_told_to_stop_all_leave_at_the_same_step(tmp_path: Path, told: tuple[int, ...]) -> None:
    """Whichever of them hears it: a collective that only some enter would never end."""
    run, log = tmp_path / "run", tmp_path / "log"
    process = many.start("run", tiny_run.RECIPE, "--output", run, *FLAGS, log=log)
    many.until(process, lambda: trained(run), log)
    both = many.ranks(process)
    asked = time.monotonic()
    for rank in told:
        os.kill(both[rank], signal.SIGTERM)
    assert many.wait(process) != 0, log.read_text()
    assert time.monotonic() - asked < SOON
    ours, _, launcher = log.read_text().partition("which the launcher reports as a failure")
    assert launcher, "nothing says that no process failed"
    assert "stopped by SIGTERM: what is done is saved in" in ours
    assert "Traceback" not in ours
    state = json.loads((run / "run.json").read_text())
    assert (state["state"], state["ended_by"]) == ("interrupted", "SIGTERM (exit code 143)")
    found = checkpoints.last_complete(run / "stages" / "01-mixed" / "checkpoints")
    assert found is not None
    assert found.step == max(row["step"] for row in tiny_run.rows(run) if row["kind"] == "train") < 200


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("error", ["ValueError", "RuntimeError"])
def test_one_fails(tmp_path: Path, rank: str, sharded: bool, error: str) -> None:
    script, log = tmp_path / "faulty.py", tmp_path / "log"
    script.write_text(FAULTY.format(error=error, before=""))
    environment = many.FSDP2 if sharded else {}
    words = (rank, "run", tiny_run.RECIPE, "--output", tmp_path / "run", *FLAGS)
    process = many.start(*words, log=log, script=script, **environment)
    many.until(process, lambda: "a fault of this process alone" in log.read_text(), log)
    failed = time.monotonic()
    assert many.wait(process) != 0
    assert time.monotonic() - failed < SOON
    assert log.read_text().count("a fault of this process alone") == 1
    assert "interrupted" not in log.read_text()
    assert "ended without saying why" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_fails_and_cannot_end(tmp_path: Path, rank: str) -> None:
    """A thread of a library that nobody stops holds up the end of the process that failed; it is ended all the same."""
    script, log = tmp_path / "faulty.py", tmp_path / "log"
    stuck = "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()"
    script.write_text(FAULTY.format(error="ValueError", before=stuck))
    process = many.start(rank, "run", tiny_run.RECIPE, "--output", tmp_path / "run", *FLAGS, log=log, script=script)
    many.until(process, lambda: "a fault of this process alone" in log.read_text(), log)
    failed = time.monotonic()
    assert many.wait(process) != 0
    assert time.monotonic() - failed < SOON
    assert log.read_text().count("a fault of this process alone") == 1


def test_a_refusal_is_said_once(tmp_path: Path) -> None:
    """By the user's door: what all processes find alike is the main one's to say."""
    log = tmp_path / "log"
    process = many.start("run", tiny_run.RECIPE, "--output", tmp_path / "run", "--rl.prompt_per_step", "3", log=log)
    assert many.wait(process) != 0
    assert log.read_text().count("error: ") == log.read_text().count("prompts_per_step") == 1
