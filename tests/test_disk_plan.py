"""How much disk a run comes to hold: the estimate beside a finished run, and room asked for on every start."""

import json
import time
from pathlib import Path
from typing import Any

import many
import pytest
import tiny_run
from safetensors import safe_open

from curr_reft.checks.costs import disk_of
from curr_reft.checks.model import describe_model
from curr_reft.disk_plan import SLACK, Disk, _size, plan_disk, require_room, told
from curr_reft.errors import DiskFullError
from curr_reft.files import human_size
from curr_reft.policy.config import Part
from curr_reft.recipe import Recipe, load_recipe

SIZES: dict[Part, int] = {"language": 100_000}
TRAININGS = ("stages/01-binary", "stages/02-choice", "stages/03-open", "baselines/rl", "baselines/sft", "self-improve")


def plan(recipe: Recipe, model: Path) -> Disk:
    with safe_open(model, framework="pt") as file:
        weights = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118 (not a dict)
    return plan_disk(recipe, {"language": weights}, weights, 4)


def test_a_finished_run_holds_no_more_than_the_last_and_the_best_without_optimizers(finished: Any) -> None:
    recipe = load_recipe(finished.path / "recipe.yaml")
    disk = plan(recipe, finished.path / "model" / "model.safetensors")
    kept = 0
    for training in TRAININGS:
        chosen = json.loads((finished.path / training / "manifest.json").read_text())["chosen_step"]
        folders = sorted((finished.path / training / "checkpoints").iterdir())
        last = int(folders[-1].name.removeprefix("step-"))
        assert {folder.name for folder in folders} == {f"step-{step:06d}" for step in (chosen, last)}
        assert not list(finished.path.glob(f"{training}/checkpoints/*/optimizer.safetensors"))
        kept += len(folders)
    # What is counted is what is there, but for headers: published models, the final one, checkpoints of weights alone.
    weights = disk.model
    expected = (len(TRAININGS) + 1) * weights + kept * weights
    assert expected < disk.held < expected + (kept + len(TRAININGS) + 1) * SLACK
    assert disk.held < disk.needed
    assert disk.needed == disk.checkpoints + disk.models
    most = recipe.checkpoint.keep_last
    trained = (len(TRAININGS) - 1) * (most + 1) * weights + (2 * most + 1) * 3 * weights
    assert disk.checkpoints == pytest.approx(trained, rel=0.2)
    assert f"disk: at most {disk.needed / 1e6:.1f} MB in " in finished.output


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def test_room_for_two_checkpoints_is_asked_for_on_a_resume_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of a training that is under way is one of the two; those of what is over are not."""
    recipe = load_recipe(tiny_run.RECIPE, ["--output", str(tmp_path / "run")])
    one = plan_disk(recipe, SIZES, 100_000, 4).checkpoint
    over, now = (tmp_path / "run" / "stages" / name / "checkpoints" / "step-000002" for name in ("01-a", "02-b"))
    write(over / "model.safetensors", one)
    write(over.parents[1] / "manifest.json", 2)

    def asked(free: int, *phases: str) -> None:
        monkeypatch.setattr("curr_reft.files.free_space", lambda path: free)
        monkeypatch.setattr("curr_reft.disk_plan.free_space", lambda path: free)
        require_room(recipe, {name: {} for name in phases}, plan_disk(recipe, SIZES, 100_000, 4))

    asked(2 * one)
    with pytest.raises(DiskFullError, match=r"2\.5 MB needed, 2\.5 MB free"):
        asked(2 * one - 1)
    write(now / "model.safetensors", one // 3)
    write(now / "optimizer.safetensors", one - one // 3)
    asked(one)
    with pytest.raises(DiskFullError, match=r"1\.3 MB needed, 1\.3 MB free"):
        asked(one - 1)
    write(now.with_name("step-000004") / "model.safetensors", 5 * one)  # a new one is written before an old one goes
    with pytest.raises(DiskFullError):
        asked(one - 1)
    asked(0, "self_improvement/self_improvement")  # nothing is left to train
    with pytest.raises(DiskFullError):
        asked(0, "sft/sft")


def test_the_estimate_says_what_is_there_and_what_is_short() -> None:
    disk = Disk(checkpoint=3, checkpoints=5_000_000, model=1, models=2_000_000, held=0, free=7_000_000)
    assert told(disk, Path("runs/a")) == "disk: at most 7.0 MB in runs/a, 7.0 MB free"
    less = Disk(checkpoint=3, checkpoints=5_000_000, model=1, models=2_000_000, held=1_000_000, free=5_999_999)
    assert told(less, Path("runs/a")) == (
        "disk: at most 7.0 MB in runs/a, 1.0 MB of it there, 6.0 MB free; that is not enough"
    )


SFT = ("--sft", "{steps: 4, batch_size: 4, freeze: []}", "--evaluation.models", "[curr_rl, sft]")
ADAPTER = ("--model.lora", "{rank: 8, parts: [language, vision]}")
CASES = {
    "other parts frozen while fine-tuned": ("--model.freeze", "[language]", "--checkpoint.every", "1", *SFT),
    "adapters": (*ADAPTER, "--model.freeze", "[vision]", "--checkpoint.every", "1", *SFT),
    "the last handed on": ("--checkpoint", "{every: 1, keep_last: 3, hand_on: last}", *SFT),
    "few saves": ("--checkpoint", "{every: 3, keep_last: 5}", *SFT),
    "rounds": (
        *("--self_improvement", "{pools: {math: {queries: 6, quota: 6}}, samples: 8, threshold: 0, rounds: 2}"),
        *("--self_improvement.sft", "{steps: 4, batch_size: 4, optimizer: {lr: 1.0e-4}}"),
        *("--self_improvement.round_steps", "2", "--sampling.max_new_tokens", "48", "--checkpoint.every", "1"),
        *("--evaluation.models", "[curr_rl, curr_reft]"),
    ),
}
QUICK = next(iter(CASES))


@pytest.mark.parametrize(
    "flags", [pytest.param(CASES[name], marks=() if name == QUICK else pytest.mark.slow, id=name) for name in CASES]
)
def test_a_run_never_holds_more_than_was_forecast_nor_much_less(tmp_path: Path, flags: tuple[str, ...]) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    process = tiny_run.start("--output", run, *many.SHORT, "--curriculum.total_steps", "4", *flags, log=log)
    peak = 0
    while process.is_alive():
        peak = max(peak, sum(_size(path) for path in run.rglob("*.safetensors")))
        time.sleep(0.005)
    assert tiny_run.wait(process) == 0, log.read_text()
    recipe = load_recipe(run / "recipe.yaml")
    forecast = disk_of(recipe, describe_model(recipe.model)[1])
    assert f"disk: at most {human_size(forecast.needed)} in {run}, " in log.read_text()  # told before the first step
    assert peak <= forecast.needed
    assert forecast.needed < 1.5 * peak + 10 * SLACK
