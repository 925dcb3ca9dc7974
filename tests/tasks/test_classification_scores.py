"""How a set of names is paid: five measures, aliases, false claims that respect them. Evaluation stays strict."""

import random
from pathlib import Path
from typing import Any, Literal, get_args

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.data.item import Item
from curr_reft.prepare import load_items
from curr_reft.recipe import load_recipe
from curr_reft.tasks import TASKS, TaskOptions
from curr_reft.tasks.config import ClassificationConfig, TasksConfig

CLASSIFICATION = TASKS["classification"]
Score = Literal["jaccard", "exact", "precision", "recall", "f1"]
SCORES = get_args(Score)
ALIASES = {"automobile": "car", "dogs": "dog", "hound": "dog"}

names = st.sampled_from(["dog", "dogs", "hound", "car", "automobile", "traffic light", "cat"])
name_lists = st.lists(names, min_size=1, max_size=6)


def options(score: Score = "jaccard", aliases: dict[str, str] | None = None) -> TaskOptions:
    return TaskOptions(tasks=TasksConfig(classification=ClassificationConfig(score=score, aliases=aliases or {})))


def earned(answer: str, truth: str, score: Score = "jaccard", aliases: dict[str, str] | None = None) -> float:
    return CLASSIFICATION.score(CLASSIFICATION.parse(answer), CLASSIFICATION.read_truth(truth), options(score, aliases))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("cat, dog", {"jaccard": 1, "exact": 1, "precision": 1, "recall": 1, "f1": 1}),
        ("cat", {"jaccard": 1 / 2, "exact": 0, "precision": 1, "recall": 1 / 2, "f1": 2 / 3}),
        ("cat, dog, car", {"jaccard": 2 / 3, "exact": 0, "precision": 2 / 3, "recall": 1, "f1": 4 / 5}),
        ("cat, car", {"jaccard": 1 / 3, "exact": 0, "precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2}),
        ("bus", {"jaccard": 0, "exact": 0, "precision": 0, "recall": 0, "f1": 0}),
        ("cat, cat, cat", {"jaccard": 1 / 2, "exact": 0, "precision": 1, "recall": 1 / 2, "f1": 2 / 3}),
    ],
)
def test_the_measures_worked_out_by_hand(answer: str, expected: dict[Score, float]) -> None:
    for score, value in expected.items():
        assert earned(answer, "dog, cat", score) == pytest.approx(value), score


@given(name_lists, name_lists, st.sampled_from(SCORES), st.booleans(), st.randoms(use_true_random=False))
def test_scores_do_not_know_order_case_or_white_space(
    given_names: list[str], true_names: list[str], score: Score, aliased: bool, rng: random.Random
) -> None:
    aliases = ALIASES if aliased else None
    plain = earned(", ".join(given_names), ", ".join(true_names), score, aliases)
    other = "  ,\n ".join(name.upper() for name in rng.sample(given_names, len(given_names)))
    assert earned(other, ", ".join(reversed(true_names)), score, aliases) == plain
    assert 0.0 <= plain <= 1.0
    assert earned(", ".join(true_names), ", ".join(true_names), score, aliases) == 1.0


@given(name_lists, name_lists)
def test_the_measures_keep_to_their_identities(given_names: list[str], true_names: list[str]) -> None:
    jaccard, exact, precision, recall, f1 = (
        earned(", ".join(given_names), ", ".join(true_names), score) for score in SCORES
    )
    assert f1 == pytest.approx(2 * jaccard / (1 + jaccard))
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    assert exact == float(jaccard == 1.0)
    assert jaccard <= min(precision, recall)


@given(name_lists, name_lists, st.sampled_from(SCORES))
def test_an_alias_counts_as_its_name_on_both_sides(given_names: list[str], true_names: list[str], score: Score) -> None:
    resolved = [[ALIASES.get(name, name) for name in each] for each in (given_names, true_names)]
    plain = earned(", ".join(resolved[0]), ", ".join(resolved[1]), score)
    assert earned(", ".join(given_names), ", ".join(true_names), score, ALIASES) == plain
    parsed, truth = (CLASSIFICATION.read_truth(each) for each in (given_names, true_names))
    assert CLASSIFICATION.correct(parsed, truth, options(score, ALIASES)) == (set(resolved[0]) == set(resolved[1]))


@pytest.mark.parametrize("score", SCORES)
def test_evaluation_wants_the_same_set_whatever_is_paid(score: Score) -> None:
    assert not CLASSIFICATION.correct(("dog",), ("dog", "cat"), options(score))
    assert not CLASSIFICATION.correct(("dog", "cat", "car"), ("dog", "cat"), options(score))
    paid = options(score, ALIASES).tasks.for_evaluation().classification
    assert (paid.score, paid.aliases) == ("jaccard", ALIASES)


@pytest.mark.parametrize(
    ("written", "table"),
    [
        ({"Automobile ": "Car."}, {"automobile": "car"}),
        ({"auto": "automobile", "automobile": "car"}, {"auto": "car", "automobile": "car"}),
        ({"automobile": "car", "auto": "automobile", "a": "auto"}, {"automobile": "car", "auto": "car", "a": "car"}),
        ({"t-shirts": "T-Shirt"}, {"t shirts": "t shirt"}),
        ({"dogs": "dog", "Dogs": "dog"}, {"dogs": "dog"}),
    ],
)
def test_aliases_are_normalised_and_followed_to_the_end(written: dict[str, str], table: dict[str, str]) -> None:
    section = ClassificationConfig(aliases=written)
    assert section.aliases == table
    assert ClassificationConfig(aliases=section.aliases).aliases == table, "a dumped recipe is read back equal"


@pytest.mark.parametrize(
    ("aliases", "rule"),
    [
        ({"a": "b", "b": "a"}, "circle: a -> b -> a"),
        ({"a": "b", "b": "c", "c": "b"}, "circle: a -> b -> c -> b"),
        ({"Dog": "dog"}, "one name already"),
        ({"": "dog"}, "no name on one side"),
        ({"dogs": "..."}, "no name on one side"),
        ({"dogs": "dog", "DOGS": "cat"}, "both 'dog' and 'cat'"),
        ({"dogs": 1}, "valid string"),
    ],
)
def test_aliases_that_cannot_be_meant_are_refused(aliases: dict[str, Any], rule: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=rule):
        ClassificationConfig(aliases=aliases)


RECIPE = """\
name: tiny
data:
  kind: files
  files:
    train: [{path: rows.jsonl, sampling: "first:2", task: classification}]
    test: [{path: rows.jsonl, sampling: "end:1", task: classification}]
rewards: {classification: {aliases: {automobile: car, hound: dog}}}
curriculum: {total_steps: 20, stages: [{name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base, curr_rl]}
"""


def test_an_alias_of_a_category_that_is_there_is_no_false_claim(tmp_path: Path) -> None:
    """By the user's door: one spelling of each category is left in the data, so no claim can be its alias."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "rows.jsonl").write_text(
        '{"problem": "list them", "solution": "automobile, hound"}\n'
        '{"problem": "list all", "solution": "car", "distractors": ["dog"]}\n'
        '{"problem": "list", "solution": "bus"}\n'
    )
    items = load_items(load_recipe(tmp_path / "recipe.yaml")).items
    assert sorted(item.truth for item in items) == [("bus",), ("car",), ("car", "dog")]
    first: Item = next(item for item in items if len(item.truth) == 2)
    claims = CLASSIFICATION.false_claims(first, CLASSIFICATION.pool(list(items)), random.Random(0), 5)
    assert claims == [("bus",)]
