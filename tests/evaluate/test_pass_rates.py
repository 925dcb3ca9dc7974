"""Measured pass rates: nothing is asked twice, and neither cuts, nor neighbours, nor more samples change an answer."""

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curr_reft.curriculum.difficulty import PassRate
from curr_reft.curriculum.wilson import wilson
from curr_reft.data.images import DrawnImage
from curr_reft.data.shapes import shapes_items
from curr_reft.evaluate import pass_rates
from curr_reft.evaluate.pass_rates import (
    form_means,
    intraclass_correlation,
    measure,
    model_sha256,
    pass_cells,
    question_key,
)
from curr_reft.evaluate.sample_cache import SampleCache
from curr_reft.policy.answers import answer_all
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.load import load_policy, model_folder
from curr_reft.policy.policy import Policy
from curr_reft.questions.compile import compile_questions
from curr_reft.questions.forms import FORMS
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig

SAMPLING = SamplingConfig(max_new_tokens=48, rows_at_once=16)
REWARDS = RewardsConfig()


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy("embedded")


@pytest.fixture(scope="module")
def questions(policy: Policy) -> list[Question]:
    items = shapes_items(0, "train", {"detection": 4, "classification": 4, "math": 4})
    made, _ = compile_questions(items, FORMS, seed=0, frame=policy.frame, style="short")
    return [question for asked in made.values() for question in asked]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(question, answers) of everything that the model was asked."""
    found: list[tuple[str, int]] = []

    def counting(policy: Policy, part: list[Question], sampling: SamplingConfig, *rest: Any, **more: Any) -> Any:
        found.extend((question.id, sampling.group_size) for question in part)
        return answer_all(policy, part, sampling, *rest, **more)

    monkeypatch.setattr(pass_rates, "answer_all", counting)
    return found


def measured(
    path: Path, load: Callable[[], Policy], questions: list[Question], samples: int, rewards: RewardsConfig = REWARDS
) -> list[PassRate]:
    with SampleCache(path) as cache:
        return measure(load, "model", questions, samples, SAMPLING, rewards, cache, lambda text: None)


def never() -> Policy:
    raise AssertionError("the weights were read, but nothing was left to ask")


def test_a_second_time_nothing_is_asked_and_no_weights_are_read(
    policy: Policy, questions: list[Question], asked: list[tuple[str, int]], tmp_path: Path
) -> None:
    first = measured(tmp_path / "c", lambda: policy, questions, 4)
    assert sorted(asked) == sorted((question.id, 4) for question in questions)
    assert measured(tmp_path / "c", never, questions, 4) == first
    assert [each.question for each in first] == [question.id for question in questions]
    assert 0 < sum(each.passes for each in first) < 4 * len(first)  # else equal numbers show nothing
    for each in first:
        assert (each.rate, (each.low, each.high)) == (each.passes / 4, wilson(each.passes, 4))


def test_more_samples_ask_only_for_those_missing_and_fewer_for_none(
    policy: Policy, questions: list[Question], asked: list[tuple[str, int]], tmp_path: Path
) -> None:
    at_once = measured(tmp_path / "once", lambda: policy, questions, 6)
    two = measured(tmp_path / "steps", lambda: policy, questions, 2)
    asked.clear()
    assert measured(tmp_path / "steps", lambda: policy, questions, 6) == at_once
    assert sorted(asked) == sorted((question.id, 4) for question in questions)
    assert measured(tmp_path / "once", never, questions, 2) == two


def test_neither_order_nor_company_nor_a_repeated_question_changes_an_answer(
    policy: Policy, questions: list[Question], asked: list[tuple[str, int]], tmp_path: Path
) -> None:
    whole = {each.question: each for each in measured(tmp_path / "a", lambda: policy, questions, 4)}
    asked.clear()
    some = questions[::-3]
    twin = replace(some[0], id="twin/open", origin="twin")
    found = measured(tmp_path / "b", lambda: policy, [*some, twin], 4)
    assert found[:-1] == [whole[question.id] for question in some]
    assert found[-1] == replace(found[0], question="twin/open", origin="twin")
    assert len(asked) == len(some)  # the twin reads the same, so it has the same answers


def test_a_measurement_that_was_cut_off_goes_on_and_ends_the_same(
    policy: Policy,
    questions: list[Question],
    asked: list[tuple[str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = measured(tmp_path / "whole", lambda: policy, questions, 4)
    asked.clear()
    add, batches = SampleCache.add, 0

    def failing(cache: SampleCache, rows: Iterable[Any]) -> None:
        nonlocal batches
        batches += 1
        if batches % 3 == 0:
            raise KeyboardInterrupt
        add(cache, rows)

    monkeypatch.setattr(SampleCache, "add", failing)
    for _ in range(20):
        try:
            found = measured(tmp_path / "cut", lambda: policy, questions, 4)
            break
        except KeyboardInterrupt:
            continue
    assert found == whole
    assert batches > 9
    # 16 rows at once are 4 questions: only the batch that was cut off is asked again.
    assert len(asked) == len(questions) + 4 * (batches // 3)


def test_the_key_is_of_everything_that_decides_an_answer_and_of_nothing_else(questions: list[Question]) -> None:
    image = DrawnImage(key="other", size=(84, 84), draw=lambda: None)  # type: ignore[arg-type, return-value]
    box, choice = questions[-12], next(question for question in questions if question.form == "choice")
    assert (box.task, box.form) == ("detection", "open")
    base = question_key(box, "m", SAMPLING, REWARDS)

    def sampled(**update: Any) -> bytes:
        return question_key(box, "m", SAMPLING.model_copy(update=update), REWARDS)

    strict = RewardsConfig.model_validate({"detection": {"threshold": 0.75}})
    other = [
        question_key(box, "other weights", SAMPLING, REWARDS),
        *(sampled(temperature=0.7), sampled(top_p=0.9), sampled(top_k=5), sampled(max_new_tokens=49)),
        question_key(box, "m", SAMPLING, strict),
        question_key(replace(box, prompt="?"), "m", SAMPLING, REWARDS),
        question_key(replace(box, truth=(0.0, 0.0, 1.0, 1.0)), "m", SAMPLING, REWARDS),
        question_key(replace(box, images=(image,)), "m", SAMPLING, REWARDS),
        question_key(choice, "m", SAMPLING, REWARDS),
        question_key(replace(choice, options=choice.options[::-1]), "m", SAMPLING, REWARDS),
        question_key(replace(choice, truth=frozenset("ABCD") - choice.truth), "m", SAMPLING, REWARDS),
    ]
    assert len({base, *other}) == len(other) + 1
    paid = RewardsConfig.model_validate(
        {"format_weight": 0.1, "math": {"workers": 1}, "classification": {"score": "exact"}}
    )
    same = [
        *(sampled(group_size=2), sampled(rows_at_once=1)),
        question_key(box, "m", SAMPLING, paid),
        question_key(replace(box, id="x/open", origin="x", source="file:3", split="test"), "m", SAMPLING, REWARDS),
    ]
    assert {base} == set(same)


def test_the_hash_of_a_model_is_of_all_that_is_read_of_it(tmp_path: Path) -> None:
    source, folder = Path(model_folder("embedded")), tmp_path / "model"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = ModelConfig(path=str(folder))
    first = model_sha256(config)
    assert first == model_sha256(ModelConfig())
    (folder / "README.md").write_text("notes")
    assert model_sha256(config.model_copy(update={"device": "cpu", "threads": 1})) == first
    changed = [model_sha256(config.model_copy(update={"dtype": "bfloat16"}))]
    for name in ("model.safetensors", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept + b" ")
        changed.append(model_sha256(config))
        (folder / name).write_bytes(kept)
    assert len({first, *changed}) == len(changed) + 1
    assert model_sha256(config) == first


def test_alike_is_the_share_of_the_spread_that_is_not_luck() -> None:
    """Against questions whose rates are known: drawn from a beta distribution, whose correlation is 1 / (a + b + 1)."""
    rng = random.Random(0)

    def drawn(a: float, b: float) -> list[tuple[int, int]]:
        rates = [rng.betavariate(a, b) for _ in range(3000)]
        return [(sum(rng.random() < rate for _ in range(8)), 8) for rate in rates]

    assert intraclass_correlation(drawn(2, 3)) == pytest.approx(1 / 6, abs=0.015)
    assert intraclass_correlation(drawn(0.2, 0.3)) == pytest.approx(1 / 1.5, abs=0.015)
    assert intraclass_correlation(drawn(3e5, 7e5)) == pytest.approx(0, abs=0.015)
    assert intraclass_correlation([(8, 8), (0, 8)]) == 1
    assert intraclass_correlation([(1, 2), (1, 2)]) == 0  # more even than luck would have it
    assert intraclass_correlation([(1, 1), (0, 1)]) is None
    assert intraclass_correlation([(8, 8), (8, 8)]) is None


def test_cells_and_forms_are_means_over_questions_and_tasks(questions: list[Question]) -> None:
    def rate(question: Question, passes: int) -> PassRate:
        return PassRate(
            question=question.id, origin=question.origin, task=question.task, form=question.form,
            n=8, passes=passes, rate=passes / 8, low=0.0, high=1.0, accuracy=0.0,
        )  # fmt: skip

    passes = {"binary": [8, 8, 4, 8], "choice": [4, 4, 4, 4], "open": [0, 0, 0, 2]}
    rates = [rate(question, passes[question.form][place % 4]) for place, question in enumerate(questions)]
    cells = {(cell["form"], cell["task"]): cell for cell in pass_cells(questions, rates, REWARDS)}
    assert len(cells) == 9
    binary, hard = cells["binary", "math"], cells["open", "math"]
    assert (binary["pass_rate"], binary["questions"], binary["n"]) == (7 / 8, 4, 32)
    assert (binary["always_right"], binary["always_wrong"]) == (3, 0)
    assert (hard["always_right"], hard["always_wrong"], hard["solved_once"]) == (0, 3, 0.25)
    means = form_means(rates)
    assert [(form["form"], form["mean"]) for form in means] == [("binary", 7 / 8), ("choice", 0.5), ("open", 1 / 16)]
    assert means[1]["low"] == means[1]["high"] == 0.5
