"""``recipes/general-points.yaml``: compiled, its truths graded, and run through its stages on a tiny Qwen2.5-VL."""

import json
from collections import Counter
from pathlib import Path

import pytest
import tiny_run
from checkpoints import published_folder

from curr_reft.data.frame import BoxFrame
from curr_reft.prepare import load_items, prepare
from curr_reft.recipe import load_recipe

RECIPE = Path(__file__).parents[1] / "recipes" / "general-points.yaml"
FEW = [
    *("--data.points.train", "40", "--data.points.validation", "8", "--data.points.test", "8"),
    *("--data.points.ood_test", "{rule: 6, visual: 6}", "--data.points.pool", "0"),
]


def test_the_recipe_compiles_into_balanced_questions_whose_truths_grade() -> None:
    recipe = load_recipe(RECIPE, FEW)
    prepared = prepare(recipe, load_items(recipe), BoxFrame("pixels"))  # grades every truth, refuses leaks
    assert {form: len(asked) for form, asked in prepared.questions["train"].items()} == dict.fromkeys(
        ("binary", "choice", "open"), 40
    )
    assert Counter(question.domain for question in prepared.of("ood_test")) == {"rule": 6, "visual": 6}
    card = prepared.card["questions"]["splits"]["train"]
    assert card["balance"] == {"yes_off": {"points": 0.0}, "letters_off": {"points": 0.0}}


def test_as_it_is_shipped_it_asks_for_what_it_says() -> None:
    points = load_recipe(RECIPE).data.points
    assert (points.train, points.target, points.faces, points.colour) == (3000, 24, "ten", "black")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("general-points")
    model = published_folder("qwen2_5_vl", folder / "model")
    ended = tiny_run.curr_reft(
        *("run", RECIPE, "--output", folder / "run", "--model.path", model, *FEW),
        *("--model.dtype", "float32", "--model.max_pixels", "12544", "--model.threads", "1"),
        *("--data.points.width", "112", "--sampling.max_new_tokens", "12", "--rl.prompts_per_step", "2"),
        *("--curriculum.total_steps", "4", "--curriculum.stages.0.steps", "1", "--curriculum.stages.1.steps", "1"),
        *("--curriculum.skip_at_chance", "false", "--curriculum.validation_items", "2", "--checkpoint.every", "4"),
        *("--evaluation.models", "[base, curr_rl]", "--evaluation.profile", "{items: 10, samples: 1}"),
        *("--evaluation.bootstrap", "100", "--evaluation.gallery", "1"),
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "out-of-domain, points: rule 0.000" in ended.stdout
    return folder / "run"


def test_it_runs_through_all_stages_on_a_tiny_model(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    assert [(stage["name"], stage["steps"]) for stage in summary["stages"]] == [
        ("01-binary", 1),
        ("02-choice", 1),
        ("03-open", 2),
    ]
    for model in ("base", "curr_rl"):
        cell = summary["evaluation"][model]["out_of_domain"]["points"]
        assert {name: own["n"] for name, own in cell["domains"].items()} == {"rule": 6, "visual": 6}
        assert "domains" not in summary["evaluation"][model]["in_domain"]["points"]
