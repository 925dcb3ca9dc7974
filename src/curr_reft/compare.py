"""``curr-reft compare``: one recipe over several seeds, and its models side by side with what chance does to them.

Each seed is a run of its own in ``OUT/seed-N``, begun or gone on with; what is finished is only read. All seeds share
the data, whose section has a seed of its own. An interval is Student's t over the seeds: it is about the training, and
not about the choice of test items, whose intervals stand in each run. Differences are paired by seed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from curr_reft import rounds
from curr_reft.errors import RecipeError
from curr_reft.evaluate.differences import name_of, pairs_of
from curr_reft.files import read_json, write_json
from curr_reft.processes import on_main
from curr_reft.recipe import Recipe
from curr_reft.report.read import MODELS, SPLITS

RESULT = "compare.json"
UPDATES = 9  # characters of the column
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
    summaries = [read_json(recipe.output / "summary.json") for recipe in recipes]
    models = _scores([summary["evaluation"] for summary in summaries])
    found: dict[str, Any] = {
        "recipe": recipes[0].name,
        "seeds": [recipe.seed for recipe in recipes],
        "updates": {model: [_updates(recipe.output, model) for recipe in recipes] for model in models},
        "models": models,
    }
    found["differences"] = _differences(found["models"])
    write_json(out / RESULT, found)
    return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """The comparison as a table of text."""
    models, seeds = found["models"], found["seeds"]
    tested = [split for split in SPLITS if any(split in scores for scores in models.values())]
    width = max(12, *(len(name) + 2 for name in models), *(len(name) - UPDATES + 2 for name in found["differences"]))
    head = f"{'model':{width}}{'updates':>{UPDATES}}" + "".join(
        f"{SPLITS[split] + ' score':>30}{'accuracy':>10}" for split in tested
    )
    told = [f"{found['recipe']}: mean over {len(seeds)} seeds, 95 % interval of it (Student's t)", head]
    for name, scores in models.items():
        updates = sorted(set(found["updates"][name]))
        row = f"{name:{width}}{'-'.join(map(str, updates[:: max(1, len(updates) - 1)])):>{UPDATES}}"
        for split in tested:
            mean = scores[split]["mean"]
            row += f"{_told(mean['score']):>30}{mean['accuracy']['mean']:>10.3f}"
        told.append(row)
    for name, splits in found["differences"].items():
        row = f"{name:{width + UPDATES}}"
        told.append((row + "".join(f"{_told(splits[split]):>30}{'':10}" for split in tested)).rstrip())
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


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """model -> split -> task or mean -> accuracy and score -> spread over the seeds."""
    first = evaluations[0]
    return {
        model: {
            split: {
                task: {
                    measure: spread([each[model][split][task][measure] for each in evaluations])
                    for measure in ("accuracy", "score")
                }
                for task in tasks
            }
            for split, tasks in splits.items()
        }
        for model, splits in first.items()
    }


def _differences(models: Mapping[str, Any]) -> dict[str, Any]:
    """Paired by seed, of the mean scores, of the pairs that are there."""
    found: dict[str, Any] = {}
    for one, other in pairs_of(list(models)):
        found[name_of(one, other)] = {
            split: spread(
                [
                    a - b
                    for a, b in zip(
                        models[one][split]["mean"]["score"]["seeds"],
                        models[other][split]["mean"]["score"]["seeds"],
                        strict=True,
                    )
                ]
            )
            for split in models[one]
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
    interval = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value['mean']:.3f}{interval}"
