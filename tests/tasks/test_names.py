"""Lists of category names: whole, normalised, each once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curr_reft.tasks import TASKS, TaskOptions
from curr_reft.tasks.config import ClassificationConfig, TasksConfig
from curr_reft.tasks.names import normalise_name, read_names, read_spellings, resolve

CLASSIFICATION = TASKS["classification"]
OPTIONS = TaskOptions()
ALIASED = TaskOptions(tasks=TasksConfig(classification=ClassificationConfig(aliases={"dogs": "dog"})))
words = st.sampled_from(["dog", "traffic light", "t-shirt", "Red Circle", "café", "wine glass", "3d printer", "dogs"])
name_lists = st.lists(words, min_size=1, max_size=6)


@given(name_lists)
def test_written_truth_is_read_back_and_scores_1(names: list[str]) -> None:
    truth = CLASSIFICATION.read_truth(names)
    assert CLASSIFICATION.read_truth(truth) == truth
    assert CLASSIFICATION.parse(CLASSIFICATION.write(truth)) == truth
    assert CLASSIFICATION.score(truth, truth, OPTIONS) == 1.0
    assert CLASSIFICATION.correct(truth, truth, OPTIONS)


@given(name_lists, name_lists)
def test_score_is_jaccard(given_names: list[str], true_names: list[str]) -> None:
    parsed, truth = CLASSIFICATION.read_truth(given_names), CLASSIFICATION.read_truth(true_names)
    shared = sum(name in truth for name in parsed)
    expected = shared / (len(parsed) + len(truth) - shared)
    assert CLASSIFICATION.score(parsed, truth, OPTIONS) == pytest.approx(expected)
    assert CLASSIFICATION.correct(parsed, truth, OPTIONS) == (expected == 1.0)


@given(st.text())
def test_no_text_makes_the_parser_raise(text: str) -> None:
    parsed = CLASSIFICATION.parse(text)
    assert parsed is None or (all(parsed) and 0.0 <= CLASSIFICATION.score(parsed, ("dog",), OPTIONS) <= 1.0)


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise_name(normalise_name(text)) == normalise_name(text)


def test_aliases_count_as_one_only_where_the_table_says_so() -> None:
    assert CLASSIFICATION.score(("dogs",), ("dog",), OPTIONS) == 0.0
    assert CLASSIFICATION.score(("dogs", "dog"), ("dog",), ALIASED) == 1.0


@pytest.mark.parametrize("raw", [None, 3, "", [], [""], [1], ["dog", None], " , ;"])
def test_what_is_no_truth_is_refused_with_a_reason(raw: object) -> None:
    with pytest.raises(ValueError, match="category name"):
        CLASSIFICATION.read_truth(raw)


@pytest.mark.parametrize(
    ("name", "compared"),
    [
        (" 'Traffic-Light.' ", "traffic light"),
        ("AB −", "ab-"),
        ("$A^{+}$", "a+"),
        ("ASP.NET", "asp net"),
        (".NET", ".net"),
        ("Type-1", "type 1"),
        ("COVID-19", "covid 19"),
        ("3 – 2", "3-2"),
        ("AC / DC", "ac/dc"),
        ("red,  white and blue", "red, white and blue"),
        ("AT&T", "at and t"),
        ("rock 'n' roll", "rock n roll"),
        ("dog--cat", "dog cat"),
        ("« Chien »", "chien"),
        ("...", ""),
        ("*", ""),
        ("-", ""),
    ],
)
def test_what_a_name_is_compared_as(name: str, compared: str) -> None:
    assert normalise_name(name) == compared


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("dog, cat", ["dog", "cat"]),
        ("AC/DC", ["AC/DC"]),
        ("Cardiomegaly|Effusion", ["Cardiomegaly", "Effusion"]),
        ("1. dog\n2. cat", ["dog", "cat"]),
        ("1. FC Köln", ["1. FC Köln"]),
        ("- dog\n- cat", ["dog", "cat"]),
        ("(25, 32)", ["(25, 32)"]),
        ('["red, white and blue"]', None),
        ("dog, cat, and bird", ["dog", "cat", "bird"]),
        ("犬、猫", ["犬", "猫"]),
    ],
)
def test_the_names_of_a_truth_in_text(text: str, names: list[str] | None) -> None:
    assert read_spellings(text) == (names or ["red", "white and blue"])


def test_known_names_with_separators_are_found_in_a_long_answer() -> None:
    known = {"ac/dc", "red, white and blue", "dog"}
    assert resolve(read_names("dog; AC/DC, red, white and blue and cat") or (), known) == (
        "dog", "ac/dc", "red, white and blue", "cat",
    )  # fmt: skip
    assert resolve(read_names("ac, dc") or (), known) == ("ac", "dc")
    long = read_names(", ".join(["red"] * 700))
    assert long is not None
    assert resolve(long, known) == ("red",)
