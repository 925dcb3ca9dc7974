"""Every recipe that is shipped loads, passes ``check``, and runs on a tiny model of its own family.

Models stand in the layout in which theirs are published, data in the trees that the recipes name, and a recipe's own
values hold but for sizes: steps, tokens of an answer, and counts that small data cannot fill.
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_run
from checkpoints import published_folder
from small_sets import write_sets
from taught_models import taught_folder

from curr_reft.cli import main
from curr_reft.policy.load import load_policy
from curr_reft.recipe import Recipe, load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
FAMILIES = {
    "general-points": "qwen2_5_vl",
    "qwen2.5-vl-3b": "qwen2_5_vl",
    "qwen2.5-vl-7b": "qwen2_5_vl",
    "qwen3-vl-2b": "qwen3_vl",
    "qwen3-vl-4b-lora-24gb": "qwen3_vl",
    "smolvlm2-2.2b": "smolvlm",
}
"""Recipe -> family of its model. The demo's model is shipped with the package and has tests of its own."""
QUICK = ("qwen3-vl-4b-lora-24gb", True)
FEW_HANDS = [
    *("--data.points.train", "20", "--data.points.validation", "4", "--data.points.test", "4"),
    *("--data.points.ood_test", "{rule: 3, visual: 3}", "--data.points.width", "112"),
]


@dataclass
class Home:
    """A folder with ``recipes/`` and ``datasets/``, as a person has it, and models made when they are asked for."""

    path: Path

    def recipe(self, name: str) -> Path:
        return self.path / "recipes" / f"{name}.yaml"

    def random(self, family: str) -> Path:
        path = self.path / "random" / family
        return path if path.exists() else published_folder(family, path)

    def taught(self, name: str) -> Path:
        """A model of the recipe's family that has seen answers to cards, or to everything else."""
        cards = name == "general-points"
        path = self.path / "taught" / FAMILIES[name] / ("cards" if cards else "pictures")
        if not path.exists():
            lesson = self.recipe(name if cards else "qwen3-vl-2b")
            taught_folder(FAMILIES[name], path, load_recipe(lesson, smaller(lesson)))
        return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    path = tmp_path_factory.mktemp("home")
    shutil.copytree(RECIPES, path / "recipes")
    write_sets(path / "datasets")
    return Home(path)


def smaller(path: Path) -> list[str]:
    """Flags that leave two updates of everything that a recipe trains, on as little data as there is."""
    recipe = load_recipe(path)
    flags = ["--curriculum.total_steps", str(2 * len(recipe.curriculum.stages))]
    flags += ["--sampling.max_new_tokens", "80" if recipe.data.kind == "points" else "40"]  # equations are longer
    for place, stage in enumerate(recipe.curriculum.stages):
        flags += [] if stage.steps == "rest" else [f"--curriculum.stages.{place}.steps", "2"]
    flags += ["--curriculum.skip_at_chance", "false"]  # a tiny model guesses
    flags += ["--sft.steps", "2"] if recipe.sft is not None else []
    if recipe.self_improvement is not None:
        pools = ", ".join(f"{domain}: {{queries: 2, quota: 1}}" for domain in recipe.self_improvement.pools)
        flags += ["--self_improvement.pools", f"{{{pools}}}", "--self_improvement.sft.steps", "2"]
    if any(entry.format == "geo170k" for entry in recipe.data.files.pool):
        place = next(n for n, entry in enumerate(recipe.data.files.train) if entry.format == "geo170k")
        flags += [f"--data.files.train.{place}.sampling", "random:50%"]  # else it takes all, and leaves the pool none
    return [*flags, *(FEW_HANDS if recipe.data.kind == "points" else [])]


def test_every_recipe_is_known_here() -> None:
    assert {path.stem for path in RECIPES.glob("*.yaml")} == {*FAMILIES, "demo"}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_recipe_says_where_its_values_come_from_and_how_it_is_run(name: str) -> None:
    text, recipe = (RECIPES / f"{name}.yaml").read_text(), load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.name == name
    assert recipe.output == (Path("runs") / name).absolute()
    assert "arXiv 2503.07065" in text
    assert f"curr-reft check recipes/{name}.yaml" in text
    assert f"run recipes/{name}.yaml" in text


def test_the_papers_settings() -> None:
    """What the recipes are for; a change here is a change of what is claimed."""
    small, large = (load_recipe(RECIPES / f"qwen2.5-vl-{size}.yaml") for size in ("3b", "7b"))
    assert (small.rl.prompts_per_step, large.rl.prompts_per_step) == (8, 16)
    for recipe in (small, large):
        assert recipe.model.max_pixels == 401_408
        assert (recipe.model.lora, recipe.model.freeze) == (None, ())
        assert (recipe.sampling.group_size, recipe.sampling.max_new_tokens) == (4, 256)
        assert (recipe.rl.optimizer.lr, recipe.rl.optimizer.schedule) == (1e-6, "linear")
        assert (recipe.rl.objective.loss, recipe.rl.objective.beta) == ("grpo", 0.04)
        assert [stage.steps for stage in recipe.curriculum.stages] == [500, 500, "rest"]
        assert recipe.curriculum.total_steps == 3300
        improvement = recipe.self_improvement
        assert improvement is not None
        assert (improvement.threshold, improvement.sft.optimizer.lr, improvement.sft.steps) == (85, 2e-7, 2000)
        assert sum(pool.quota for pool in improvement.pools.values()) == 1520
        assert {entry.domain for entry in recipe.data.files.pool} == set(improvement.pools)


@pytest.mark.parametrize("name", FAMILIES)
def test_check_passes(name: str, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model.path", str(home.random(FAMILIES[name])), *smaller(home.recipe(name))]
    assert main(["check", str(home.recipe(name)), *flags]) == 0, capsys.readouterr().err
    assert f"recipe {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "lora"),
    [
        pytest.param(name, lora, id=f"{name}-{'lora' if lora else 'full'}", marks=[] if quick else [pytest.mark.slow])
        for name in FAMILIES
        for lora in (False, True)
        for quick in [(name, lora) == QUICK]
    ],
)
def test_two_updates_of_everything(name: str, lora: bool, home: Home, tmp_path: Path) -> None:
    path, folder = home.recipe(name), tmp_path / "run"
    recipe = load_recipe(path)
    flags = ["--model.path", str(home.taught(name)), "--output", str(folder), *smaller(path)]
    if lora != (recipe.model.lora is not None):
        flags += ["--model.lora", "{rank: 4}" if lora else "null"]
    assert tiny_run.run(*flags, log=tmp_path / "log", command=("run", path)) == 0, (tmp_path / "log").read_text()
    _assert_trained(folder, recipe)
    assert load_policy(folder / "model").family == load_policy(home.taught(name)).family


def _assert_trained(folder: Path, recipe: Recipe) -> None:
    """Every stage and every phase made its updates, was paid for something, and left what it should."""
    trained: dict[str, list[dict[str, float]]] = {}
    for row in tiny_run.rows(folder):
        if row["kind"] == "train":
            trained.setdefault(row["stage"], []).append(row)
    stages = [f"{place:02}-{stage.name}" for place, stage in enumerate(recipe.curriculum.stages, start=1)]
    expected = dict.fromkeys(stages, 2)
    expected |= {"rl": 2 * len(stages)} if "rl" in recipe.evaluation.models else {}
    expected |= {"sft": 2} if recipe.sft is not None else {}
    expected |= {"self_improvement": 2} if recipe.self_improvement is not None else {}
    assert {stage: len(rows) for stage, rows in trained.items()} == expected
    for stage, rows in trained.items():
        assert all(math.isfinite(row["loss"]) for row in rows), stage
        assert any(row["grad_norm"] > 0 for row in rows), stage
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["evaluation"]) == list(recipe.evaluation.models)
    for suites in summary["evaluation"].values():
        for suite in ("in_domain", "out_of_domain"):
            assert all(cell["n"] > 0 for task, cell in suites[suite].items() if task != "mean")
    if recipe.self_improvement is not None:
        assert summary["self_improvement"]["kept"] > 0
    assert (folder / "report.html").is_file()
