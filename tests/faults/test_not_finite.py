"""NaN or infinity in a loss, a gradient or the weights: the run ends before it is stepped on or saved, and says so."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import many
import pytest
import tiny_run
import torch

from curr_reft.train import checkpoint as checkpoints

FLAGS = (*many.SHORT, "--curriculum.total_steps", "5", "--checkpoint.every", "1")
AT = 3  # the step of the fault

# What is added to a loss of step AT. The derivative of a root at 0 is infinite: there the loss is a number and the
# gradient is not; a constant that is not a number has no gradient at all.
FAULTS = {
    "gradient": lambda loss: loss + (loss - loss.detach()).abs().sqrt(),
    "loss": lambda loss: loss + float("nan"),
    "inf": lambda loss: loss * float("inf"),
    "infinite loss": lambda loss: loss + float("inf"),
    "nan": lambda loss: loss * float("nan"),
}
DEFAULT = ("gradient", "loss")


def _poisoned(name: str, words: list[str], log: Path) -> None:
    """A run, in a forked process, whose loss breaks in one step."""
    from curr_reft.cli import main
    from curr_reft.train.grpo import GrpoObjective

    tiny_run.begin(log)
    right, prepare, step = GrpoObjective.loss, GrpoObjective.prepare, [0]

    def prepared(self: GrpoObjective, number: int) -> Any:
        step[0] = number
        return prepare(self, number)

    def loss(self: GrpoObjective, batch: Any) -> Any:
        value, parts = right(self, batch)
        return (FAULTS[name](value) if step[0] == AT else value), parts

    GrpoObjective.prepare, GrpoObjective.loss = prepared, loss  # type: ignore[method-assign]
    sys.exit(main(words))


def assert_clean(run: Path, log: Path, last_step: int) -> None:
    """The last checkpoint is that of the last step before the fault, and it holds numbers."""
    assert "Traceback" not in log.read_text()
    assert json.loads((run / "run.json").read_text())["state"] != "done"
    last = checkpoints.last_complete(run / "stages" / "01-mixed" / "checkpoints")
    assert last is not None
    assert last.step == last_step
    tensors = checkpoints.load(last).tensors["model"]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in DEFAULT)) for name in FAULTS]
)
def test_a_run_stops_before_the_step(name: str, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    words = ["run", str(tiny_run.RECIPE), "--output", str(run), *FLAGS]
    assert tiny_run.wait(tiny_run.fork(_poisoned, name, words, log)) == 1, log.read_text()
    (loss, norm) = re.search(r"step 3: loss (\S+), gradient norm (\S+); stopped before", log.read_text()).groups()  # type: ignore[union-attr]
    assert (loss.lstrip("-") in ("nan", "inf")) is (name != "gradient")
    assert (norm in ("nan", "inf")) is (name not in ("loss", "infinite loss"))
    assert max(row["step"] for row in tiny_run.rows(run)) == AT - 1
    assert_clean(run, log, AT - 1)


@pytest.mark.parametrize("every", [pytest.param("1", marks=pytest.mark.slow), "50"])
def test_weights_that_a_step_broke_are_not_saved(every: str, tmp_path: Path) -> None:
    """Loss and gradient are numbers, and the step is too long for a float: the next answers show it, those of the
    validation before a save, or those of the next step."""
    run, log = tmp_path / "run", tmp_path / "log"
    flags = [*FLAGS, "--checkpoint.every", every, "--rl.optimizer", "{lr: 1.0e+38}"]
    assert tiny_run.run("--output", run, *flags, log=log) == 1, log.read_text()
    assert "the model's probabilities are not numbers" in log.read_text()
    assert_clean(run, log, 0)
