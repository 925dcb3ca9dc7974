"""``curr-reft compare``: one recipe over several seeds, and its models side by side with what chance does to them.

Each seed is a run of its own in ``OUT/seed-N``, begun or gone on with; what is finished is only read. All seeds share
the data, whose section has a seed of its own. An interval is Student's t over the seeds: it is about the training, and
not about the choice of test items, whose intervals stand in each run. Differences are paired by seed. The general
pool is told as a third suite. Runs that were tested on other items, or began from another base, are not averaged.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from curr_reft import rounds
from curr_reft.comparable import Scores, require_alike, scores_of
from curr_reft.errors import RecipeError
from curr_reft.evaluate.differences import name_of, pairs_of
from curr_reft.evaluate.general import SPLIT as GENERAL
from curr_reft.files import read_json, write_json
from curr_reft.processes import on_main
from curr_reft.recipe import Recipe
from curr_reft.report.read import MODELS, SPLITS

RESULT = "compare.json"
UPDATES, SCORE, ACCURACY = 9, 30, 10  # characters of the columns
# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
MOST_SEEDS = len(_T) + 1

Carry = Callable[[Recipe], Any]


def recipes_of(recipe: Recipe, seeds: Sequence[int], out: Path) -> list[Recipe]:
    """The recipe for each seed, with every model that it has the sections for. Raises RecipeError."""
    if len(set(seeds)) < len(seeds) or not 1 <= len(seeds) <= MOST_SEEDS or min(seeds) < 0:
        raise RecipeError(f"--seeds {' '.join(map(str, seeds))}: name 1 to {MOST_SEEDS} different seeds from 0 on")
    absent = {"sft": recipe.sft is None, "curr_reft": recipe.self_improvement is None}
    models = tuple(name for name in MODELS if not absent.get(name, False))
    evaluation = recipe.evaluation.model_copy(update={"models": models})
    return [
        recipe.model_copy(update={"seed": seed, "output": out / f"seed-{seed}", "evaluation": evaluation})
        for seed in seeds
    ]


def compare(recipes: Sequence[Recipe], out: Path, carry_out: Carry) -> dict[str, Any]:
    """Carry out every run that is not finished, and write ``out/compare.json``; its content."""
    for recipe in recipes:
        carry_out(recipe)
    return on_main(lambda: _compared(recipes, out))


def _compared(recipes: Sequence[Recipe], out: Path) -> dict[str, Any]:
    runs = [recipe.output for recipe in recipes]
    notes = require_alike(runs)
    models = _scores([scores_of(run) for run in runs])
    found: dict[str, Any] = {
        "recipe": recipes[0].name,
        "seeds": [recipe.seed for recipe in recipes],
        "notes": notes,
        "updates": {model: [_updates(run, model) for run in runs] for model in models},
        "models": models,
    }
    found["differences"] = _differences(found["models"])
    write_json(out / RESULT, found)
    return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """The comparison as text: a table of the test splits, one of the general pool where there is one, notes."""
    models = found["models"].values()
    tested = [(f"{label} score", suite, "mean") for suite, label in SPLITS.items() if any(suite in m for m in models)]
    cells = dict.fromkeys(cell for own in models for cell in own.get(GENERAL, ()))
    pool = [("general pool score", GENERAL, "mean"), *((cell, GENERAL, cell) for cell in cells if cell != "mean")]
    told = [f"{found['recipe']}: mean over {len(found['seeds'])} seeds, 95 % interval of it (Student's t)"]
    told += _table(found, tested)
    if cells:
        told += ["", *_table(found, pool)]
    return told + found["notes"]


def _table(found: Mapping[str, Any], columns: Sequence[tuple[str, str, str]]) -> list[str]:
    """A row a model, and a row a pair of models, told by the mean over cells. A column: (heading, suite, cell)."""
    models, pairs = found["models"], found["differences"]
    width = max(12, *(len(name) + 2 for name in models), *(len(name) - UPDATES + 2 for name in pairs))
    head = f"{'model':{width}}{'updates':>{UPDATES}}"
    for heading, _, cell in columns:
        head += f"{heading:>{SCORE}}" + (f"{'accuracy':>{ACCURACY}}" if cell == "mean" else "")
    told = [head]
    for name, suites in models.items():
        updates = sorted(set(found["updates"][name]))
        row = f"{name:{width}}{'-'.join(map(str, updates[:: max(1, len(updates) - 1)])):>{UPDATES}}"
        for _, suite, cell in columns:
            own = suites[suite][cell]
            row += f"{_told(own['score']):>{SCORE}}"
            row += f"{own['accuracy']['mean']:>{ACCURACY}.3f}" if cell == "mean" else ""
        told.append(row)
    for name, suites in pairs.items():
        row = f"{name:{width + UPDATES}}"
        for _, suite, cell in columns:
            row += f"{_told(suites[suite]):>{SCORE}}{'':{ACCURACY}}" if cell == "mean" else ""
        told.append(row.rstrip())
    return told


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and 95 % interval of the mean by Student's t; without an interval for one value."""
    mean = fmean(values)
    half = _T[len(values) - 2] * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {
        "mean": mean,
        "low": None if half is None else mean - half,
        "high": None if half is None else mean + half,
        "seeds": list(values),
    }


def _scores(runs: Sequence[Scores]) -> dict[str, Any]:
    """model -> suite -> task, cell or mean -> accuracy and score -> spread over the seeds."""
    return {
        model: {
            suite: {
                cell: {
                    measure: spread([each[model][suite][cell][measure] for each in runs])
                    for measure in ("accuracy", "score")
                }
                for cell in cells
            }
            for suite, cells in suites.items()
        }
        for model, suites in runs[0].items()
    }


def _differences(models: Mapping[str, Any]) -> dict[str, Any]:
    """Paired by seed, of the mean scores, of the pairs that are there."""
    found: dict[str, Any] = {}
    for one, other in pairs_of(list(models)):
        found[name_of(one, other)] = {
            suite: spread(
                [
                    a - b
                    for a, b in zip(
                        models[one][suite]["mean"]["score"]["seeds"],
                        models[other][suite]["mean"]["score"]["seeds"],
                        strict=True,
                    )
                ]
            )
            for suite in models[one]
            if suite in models[other]
        }
    return found


def _updates(run: Path, model: str) -> int:
    """Optimizer steps that made a model of a finished run."""
    name, last = rounds.parted(model)
    if name not in ("curr_rl", "curr_reft"):
        return 0 if name == "base" else _steps(run / "baselines" / name)
    folders = [path.parent for path in sorted((run / "stages").glob("*/manifest.json"))]
    for number in range(rounds.FIRST, last + 1):
        folders += [rounds.rl_folder(run, number)] if number > rounds.FIRST else []
        if number < last or name == "curr_reft":
            learned = rounds.improve_folder(run, number)
            folders += [learned] if (learned / "manifest.json").is_file() else []  # it may have kept nothing
    return sum(map(_steps, folders))


def _steps(folder: Path) -> int:
    return int(read_json(folder / "manifest.json")["steps"])


def _told(value: Mapping[str, Any]) -> str:
    mean, low, high = (None if value[key] is None else _decimal(value[key]) for key in ("mean", "low", "high"))
    return f"{mean}" if low is None else f"{mean} [{low}, {high}]"


def _decimal(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # what rounds to nothing has no sign
