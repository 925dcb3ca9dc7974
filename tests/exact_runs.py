"""Small whole runs that are saved after every step, unbroken, for tests that kill others like them and compare."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import dying
import tiny_run
from resealing import reseal_run

STEPS = 4  # of every training
SAVES = (1, 2, 3)  # after which a run is killed; at 4 a training is through

SMALL = (
    *("--checkpoint.every", "1", "--checkpoint.keep_last", "1"),
    *("--evaluation.items", "2", "--evaluation.bootstrap", "100", "--evaluation.profile", "{items: 10, samples: 1}"),
    *("--curriculum.validation_items", "2", "--evaluation.gallery", "0"),
)

# Every kind of training and sampling. The plain-RL baseline is left out: it is the last stage with more steps.
WHOLE = (
    *SMALL,
    *("--curriculum.total_steps", str(3 * STEPS), "--evaluation.models", "[sft, curr_reft]"),
    "--curriculum.stages",
    f"[{{name: binary, forms: {{binary: 1}}, steps: {STEPS}}},"
    f" {{name: choice, forms: {{choice: 1}}, steps: {STEPS}, replay: 0.3}},"
    f" {{name: open, forms: {{open: 1}}, steps: rest, replay: 0.3}}]",
    *("--sft.steps", str(STEPS), "--self_improvement.sft.steps", str(STEPS), "--self_improvement.save_every", "12"),
)

# Dropout draws from torch's own generator in every forward of a training step.
LORA = ("--model.lora", "{rank: 4, dropout: 0.1}", "--rl.optimizer.lr", "5e-3")

# All that keeps state from step to step, at once, in one stage with an adapter.
SETTINGS = (
    *SMALL,
    *LORA,
    *("--curriculum.total_steps", "5", "--evaluation.models", "[curr_rl]", "--self_improvement", "null"),
    *("--sampling.max_new_tokens", "24"),
    "--curriculum.stages",
    "[{name: easy, forms: {binary: 1}, steps: 1}, {name: both, forms: {open: 2, choice: 1}, steps: rest, replay: 0.3,"
    " gate: {accuracy: 0.01, window: 2, patience: 2, min_steps: 3}}]",
    *("--rl.objective", "{beta: 0.04, updates_per_batch: 2}", "--rl.resample", "{rounds: 1}"),
    *("--rl.questions_per_image", "2", "--rl.prompts_per_step", "4"),
    *("--rl.optimizer", "{lr: 5e-3, schedule: cosine, warmup: 0.3, weight_decay: 0.01}"),
)

FIRST, SECOND = Path("stages", "01-easy"), Path("stages", "02-both")  # of SETTINGS
SETTINGS_STEPS = 3  # of the second stage, at which its gate ends it

FLAGS = {"full": WHOLE, "lora": (*WHOLE, *LORA), "settings": SETTINGS}


@dataclass(frozen=True, kw_only=True)
class Unbroken:
    """A run that nothing happened to. Tests do not change it."""

    path: Path
    saves: list[dying.Saved]


def unbroken(folder: Path, kind: str) -> Unbroken:
    """The run of ``FLAGS[kind]`` in ``folder``."""
    run, log, journal = folder / "run", folder / "log", folder / "journal"
    assert dying.end(*FLAGS[kind], run=run, log=log, journal=journal) == 0, log.read_text()
    return Unbroken(path=run, saves=dying.saves(journal))


def back_to(whole: Path, run: Path, *forgotten: str) -> None:
    """A copy of a finished run as it was before the phases ``forgotten``, and the end."""
    shutil.copytree(whole, run)
    record = json.loads((run / "run.json").read_text())
    for phase in (*forgotten, "report"):
        del record["phases"][phase]
    for name in ("model", "summary.json", "report.html", "README.md", "eval/images"):
        gone = run / name
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink(missing_ok=True)
    reseal_run(run, {**record, "state": "running", "resumed": []})


def between_stages(whole: Path, run: Path) -> None:
    """A copy of a finished run of ``SETTINGS`` as it was when its first stage was published, the second not begun."""
    back_to(whole, run, "curr_rl/02-both", "eval/curr_rl")
    shutil.rmtree(run / SECOND)
    for path in (run / "eval").glob("curr_rl*"):
        path.unlink()
    rows = [row for row in tiny_run.rows(run) if row["stage"] == "01-easy"]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reseal_run(run)
