"""Seeds side by side: what the intervals are, that finished runs are only read, and the command itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from curr_reft.compare import RESULT, compare, lines, recipes_of, spread
from curr_reft.errors import RecipeError, UsageError
from curr_reft.recipe import Recipe, load_recipe

LEVELS = {"base": 0.1, "sft": 0.3, "rl": 0.5, "curr_rl": 0.6, "curr_reft": 0.65}


def pretend(recipe: Recipe) -> None:
    """Leaves behind what a run of this seed would: every score is a level of the model and a step for the seed."""
    folder = recipe.output
    (folder / "eval").mkdir(parents=True, exist_ok=True)
    splits: dict[str, Any] = {}
    general: dict[str, Any] = {}
    for model in recipe.evaluation.models:
        score = LEVELS[model] + 0.01 * recipe.seed
        cell = {"accuracy": score / 2, "score": score, "low": 0.0, "high": 1.0}
        splits[model] = {name: {"math": cell, "mean": cell} for name in ("in_domain", "out_of_domain")}
        forgotten = {"accuracy": 0.2, "score": 0.8 - score, "low": 0.0, "high": 1.0}
        general[model] = {"arithmetic": forgotten, "yes_no": cell, "mean": forgotten}
    (folder / "summary.json").write_text(json.dumps({"evaluation": splits, "general": general}))
    (folder / "run.json").write_text(json.dumps({"versions": {"torch": "2.13.0"}, "model_sha256": "a"}))
    rows = [{"split": "in_domain", "id": "math/1/open", "form": "open", "truth": "5", "score": 1.0}]
    claims = [{"split": "yes_no", "id": "sum/1/binary", "form": "binary", "truth": "yes" if recipe.seed else "no"}]
    for kind, own in (("predictions", rows), ("general", claims)):
        text = "".join(json.dumps(row) + "\n" for row in own)
        (folder / "eval" / f"{next(iter(splits))}.{kind}.jsonl").write_text(text)
    steps = {"stages/01-binary": 2, "stages/02-open": 6 + recipe.seed, "baselines/rl": 8, "baselines/sft": 3}
    for name, count in {**steps, "self-improve": 3}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "manifest.json").write_text(json.dumps({"steps": count}))


def test_the_interval_is_students_t() -> None:
    """Of 1, 2, 3, 4, 5: mean 3, standard error sqrt(2.5 / 5), t(4) = 2.776."""
    found = spread([1, 2, 3, 4, 5])
    assert (found["mean"], found["low"], found["high"]) == (
        3,
        pytest.approx(1.0370, abs=1e-3),
        pytest.approx(4.9630, abs=1e-3),
    )
    assert spread([0.5]) == {"mean": 0.5, "low": None, "high": None, "seeds": [0.5]}


def test_models_over_seeds(tmp_path: Path) -> None:
    recipes = recipes_of(load_recipe(tiny_run.RECIPE), [0, 1, 2], tmp_path)
    assert [(each.seed, each.output) for each in recipes] == [(n, tmp_path / f"seed-{n}") for n in (0, 1, 2)]
    found = compare(recipes, tmp_path, pretend)
    assert json.loads((tmp_path / RESULT).read_text()) == found
    mean = found["models"]["curr_rl"]["in_domain"]["mean"]["score"]
    assert mean["seeds"] == pytest.approx([0.6, 0.61, 0.62])
    assert (mean["mean"], mean["low"]) == (pytest.approx(0.61), pytest.approx(0.61 - 4.303 * 0.01 / 3**0.5))
    assert found["updates"] == {
        "base": [0, 0, 0],
        "sft": [3, 3, 3],
        "rl": [8, 8, 8],
        "curr_rl": [8, 9, 10],
        "curr_reft": [11, 12, 13],
    }
    # Paired by seed: what all models of a seed share is not in the interval of a difference.
    apart = found["differences"]["curr_rl - rl"]["out_of_domain"]
    assert (apart["mean"], apart["low"], apart["high"]) == (pytest.approx(0.1),) * 3
    told = lines(found)
    assert any(line.startswith("curr_rl          8-10") and "0.610 [0.585, 0.635]" in line for line in told), told
    assert any(line.startswith("curr_rl - rl ") and "0.100 [0.100, 0.100]" in line for line in told)
    assert found["notes"] == []


def test_the_general_pool_is_told_and_paired_like_the_rest(tmp_path: Path) -> None:
    found = compare(recipes_of(load_recipe(tiny_run.RECIPE), [0, 1, 2], tmp_path), tmp_path, pretend)
    pool = found["models"]["curr_rl"]["general"]
    assert pool["mean"]["score"]["seeds"] == pytest.approx([0.2, 0.19, 0.18])
    assert set(pool) == {"arithmetic", "yes_no", "mean"}
    apart = found["differences"]["curr_rl - rl"]["general"]
    assert (apart["mean"], apart["low"], apart["high"]) == (pytest.approx(-0.1),) * 3
    told = lines(found)
    start = told.index("")  # a table of its own
    head, *rows = told[start + 1 :]
    assert head.split() == ["model", "updates", "general", "pool", "score", "accuracy", "arithmetic", "yes_no"]
    assert rows[3].startswith("curr_rl ")
    assert rows[3].count("0.190 [0.165, 0.215]") == 2
    assert "0.610 [0.585, 0.635]" in rows[3]
    assert any(line.startswith("curr_rl - rl ") and "-0.100 [-0.100, -0.100]" in line for line in rows)


def change(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries) + "\n")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda run: change(run / "run.json", model_sha256="b"), "began from other weights than .*: b, not a"),
        (lambda run: change(run / "run.json", code_sha256="c"), "graded by other code .*: c, not None"),
        (
            lambda run: change(run / "eval/base.predictions.jsonl", id="math/2/open"),
            "on the items of .*2 such",
        ),
        (lambda run: change(run / "eval/base.predictions.jsonl", truth="6"), "has another truth in one"),
        (lambda run: (run / "eval/base.predictions.jsonl").unlink(), "base.predictions.jsonl is not there"),
        (lambda run: change(run / "summary.json", general={}), "only one was evaluated on base, general, arithmetic"),
        (lambda run: (run / "summary.json").write_text("[]"), "summary.json cannot be read"),
    ],
    ids=["base", "graders", "items", "truths", "answers", "models", "summary"],
)
def test_runs_that_cannot_be_averaged_are_refused(harm: Any, said: str, tmp_path: Path) -> None:
    recipes = recipes_of(load_recipe(tiny_run.RECIPE), [0, 1], tmp_path)

    def carry_out(recipe: Recipe) -> None:
        pretend(recipe)
        if recipe.seed == 1:
            harm(recipe.output)

    with pytest.raises(UsageError, match=f"(?s){said}.*repeat the command") as raised:
        compare(recipes, tmp_path, carry_out)
    assert "seed-1" in str(raised.value)
    assert not (tmp_path / RESULT).exists()


def test_runs_of_different_versions_are_averaged_and_named(tmp_path: Path) -> None:
    recipes = recipes_of(load_recipe(tiny_run.RECIPE), [0, 1], tmp_path)

    def carry_out(recipe: Recipe) -> None:
        pretend(recipe)
        change(recipe.output / "run.json", versions={"torch": f"2.1{recipe.seed}.0"})

    told = lines(compare(recipes, tmp_path, carry_out))
    assert told[-1] == "note: the runs were made with different versions of torch: 2.10.0 in seed-0, 2.11.0 in seed-1"


def test_a_split_that_the_recipe_does_not_have_is_no_column() -> None:
    scores = {
        model: {"in_domain": {"mean": {"score": spread([level, level]), "accuracy": spread([level, level])}}}
        for model, level in (("rl", 0.5), ("curr_rl", 0.6))
    }
    updates, apart = {"rl": [8, 8], "curr_rl": [8, 8]}, {"curr_rl - rl": {"in_domain": spread([0.1, 0.1])}}
    told = "\n".join(
        lines({"recipe": "r", "seeds": [0], "updates": updates, "models": scores, "differences": apart, "notes": []})
    )
    assert "In-domain" in told
    assert "Out-of-domain" not in told
    assert "nan" not in told


def test_models_are_those_that_the_recipe_has_sections_for(tmp_path: Path) -> None:
    recipe = load_recipe(tiny_run.RECIPE, ["--evaluation.models", "[base]"])
    assert recipes_of(recipe, [0], tmp_path)[0].evaluation.models == tuple(LEVELS)
    without = recipe.model_copy(update={"sft": None, "self_improvement": None})
    (one,) = recipes_of(without, [3], tmp_path)
    assert one.evaluation.models == ("base", "rl", "curr_rl")
    found = compare([one], tmp_path, pretend)
    assert list(found["differences"]) == ["curr_rl - rl"]
    assert any("0.630 " in line and "[" not in line for line in lines(found))


@pytest.mark.parametrize("seeds", [[0, 0], [-1], [], list(range(32))])
def test_seeds_that_are_refused(seeds: list[int], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="name 1 to 31 different seeds"):
        recipes_of(load_recipe(tiny_run.RECIPE), seeds, tmp_path)


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    words = ["compare", tiny_run.RECIPE, "--seeds", "0", "1", "--out", tmp_path / "out"]
    first = tiny_run.curr_reft(*words)
    assert first.returncode == 0, first.stderr
    found = json.loads((tmp_path / "out" / RESULT).read_text())
    assert set(found["models"]) == set(LEVELS)
    written = (tmp_path / "out" / "seed-0" / "summary.json").stat().st_mtime_ns
    (tmp_path / "out" / RESULT).unlink()
    again = tiny_run.curr_reft(*words)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("this run is finished") == 2
    assert json.loads((tmp_path / "out" / RESULT).read_text()) == found
    assert (tmp_path / "out" / "seed-0" / "summary.json").stat().st_mtime_ns == written
