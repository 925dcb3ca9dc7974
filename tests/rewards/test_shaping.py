"""Shaping: its measures against TRL's, what a model would try, and that no shaping pays for a wrong answer."""

import math
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.rewards import get_repetition_penalty_reward, get_soft_overlong_punishment

from curr_reft.questions.question import Question
from curr_reft.rewards import config as sections
from curr_reft.rewards import parts
from curr_reft.rewards.agreement import conclusion, own_words
from curr_reft.rewards.config import AgreementConfig, CustomRewardConfig, LengthConfig, RepetitionConfig, RewardsConfig
from curr_reft.rewards.grading import Completed, grade, grade_all, total
from curr_reft.rewards.length import length_part
from curr_reft.rewards.parts import Parts
from curr_reft.rewards.repetition import repetition_part
from curr_reft.rewards.words import words

SHAPED = RewardsConfig(
    length=LengthConfig(low=4, high=60, margin=20, weight=0.5),
    repetition=RepetitionConfig(weight=0.4),
    agreement=AgreementConfig(weight=0.3),
)


def ask(task: str, form: str, truth: Any, options: tuple[str, ...] = (), prompt: str = "") -> Question:
    return Question(id="x", origin="x", task=task, form=form, prompt=prompt, truth=truth, options=options)


def shaped(question: Question, completion: str, config: RewardsConfig = SHAPED) -> dict[str, float | None]:
    row = Completed(question, completion)
    [found] = Parts(config).add(grade_all([row[:3]], config), [row])
    return found.parts


def agreement(question: Question, thinking: str, answer: str) -> float | None:
    completion = f"<think>{thinking}</think><answer>{answer}</answer>"
    return shaped(question, completion, RewardsConfig(agreement=AgreementConfig()))["agreement"]


@given(st.integers(0, 400), st.integers(1, 100), st.integers(1, 200))
def test_with_low_0_length_is_the_soft_overlong_punishment_of_dapo(count: int, margin: int, high: int) -> None:
    theirs = get_soft_overlong_punishment(max_completion_len=high + margin, soft_punish_cache=margin)
    assert length_part(count, 0, high, margin) == pytest.approx(theirs(completion_ids=[[1] * count])[0])


@given(st.integers(0, 500), st.integers(0, 99), st.integers(100, 200), st.integers(1, 50))
def test_length_is_charged_outside_of_its_range_only(count: int, low: int, high: int, margin: int) -> None:
    charge = length_part(count, low, high, margin)
    assert -1.0 <= charge <= 0.0
    assert (charge == 0.0) is (low <= count <= high)
    if count > high:
        assert length_part(count + 1, low, high, margin) <= charge
    if count < low:
        assert length_part(count + 1, low, high, margin) >= charge


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 4))
def test_repetition_is_that_of_trl(ids: list[int], n: int) -> None:
    theirs = get_repetition_penalty_reward(ngram_size=n, max_penalty=-1.0)(completion_ids=[ids])[0]
    assert repetition_part(ids, n) == pytest.approx(theirs)
    assert -1.0 < repetition_part(ids, n) <= 0.0


def test_words_are_counted_in_any_script() -> None:
    assert words("Two dogs, 3.5 m!") == ["two", "dogs", "3", "5", "m"]
    assert words("图中有3只狗") == ["图", "中", "有", "3", "只", "狗"]
    assert words("<think></think>") == ["think", "think"]
    assert words("...") == []


QUESTION = "How many red circles are there in the picture?"
THINKING = "I look at each corner and find one above, two below."
NUMBER = ask("math", "open", "3", prompt=QUESTION)
CHOICE = ask("classification", "choice", frozenset("AC"), ("dog", "cat", "car", "bus"))
BOX = ask("detection", "open", (10.0, 10.0, 50.0, 50.0))


@pytest.mark.parametrize(
    ("question", "thinking", "answer", "value"),
    [
        (NUMBER, f"{THINKING} So the answer is 3.", "3", 1.0),
        (NUMBER, f"{THINKING} The final answer: 3", "3.0", 1.0),
        (NUMBER, f"{THINKING}\nSo, 3", "3", 1.0),
        (NUMBER, f"{THINKING} The answer is 4. No, that one is green, so the answer is 3.", "3", 1.0),
        (CHOICE, f"{THINKING} The right options are A and C", "C, A", 1.0),
        (CHOICE, f"{THINKING} The answer is: A. dog, C. car", "A, C", 1.0),
        (ask("math", "binary", False), f"{THINKING} The decision is no.", "no", 1.0),
        (ask("math", "binary", False), f"{THINKING} Therefore false.", "no", 1.0),
        (BOX, f'{THINKING} The box is {{"bbox_2d": [11, 10, 50, 49]}}', '{"bbox_2d": [10, 10, 50, 50]}', 1.0),
        (ask("classification", "open", ("dog", "car")), f"{THINKING} The answer is car, dog", "dog, car", 1.0),
        # The thinking arrives elsewhere, or nowhere.
        (NUMBER, f"{THINKING} So the answer is 4.", "3", 0.0),
        (NUMBER, f"{THINKING} The answer is 3. The answer is 4.", "3", 0.0),
        (NUMBER, f"{THINKING} The answer is 3 or 4.", "3", 0.0),
        (NUMBER, THINKING, "3", 0.0),
        (NUMBER, f"{THINKING} The answer is 3, but I am not sure and it may be something else.", "3", 0.0),
        (CHOICE, f"{THINKING} The answer is A.", "A, C", 0.0),
        # A wrong answer is never paid, however well the thinking agrees with it.
        (NUMBER, f"{THINKING} So the answer is 4.", "4", 0.0),
        (CHOICE, f"{THINKING} The answer is A.", "A", 0.0),
        # Thinking that holds nothing of its own: empty, the conclusion alone, the question, the options, all answers.
        (NUMBER, "The answer is 3.", "3", 0.0),
        (NUMBER, "Well. Well. Well. Well. Well. Well. The answer is 3.", "3", 0.0),
        (NUMBER, f"{QUESTION} {QUESTION} The answer is 3.", "3", 0.0),
        (NUMBER, "The answer is 1. The answer is 2. The answer is 3.", "3", 0.0),
        (NUMBER, f"{THINKING} The answer is 1. The answer is 2. The answer is 3.", "3", 0.0),
        (NUMBER, " ", "3", 0.0),
    ],
)
def test_agreement(question: Question, thinking: str, answer: str, value: float) -> None:
    assert agreement(question, thinking, answer) == value


def test_agreement_needs_the_form() -> None:
    config = RewardsConfig(agreement=AgreementConfig())
    right = f"<think>{THINKING} The answer is 3.</think><answer>3</answer>"
    assert shaped(NUMBER, right, config)["agreement"] == 1.0
    for broken in (right + " done", right.replace("</think>", ""), "<answer>3</answer>", ""):
        assert shaped(NUMBER, broken, config)["agreement"] == 0.0


def test_options_copied_from_the_prompt_are_no_reasoning() -> None:
    prompt = "Which is it? A. red circle B. blue square C. green star D. red square which letter?"
    question = ask("detection", "choice", frozenset("B"), prompt=prompt)
    listed = "A. red circle B. blue square C. green star D. red square"
    assert agreement(question, f"{listed} The answer is B.", "B") == 0.0
    assert own_words(listed, prompt) == 0
    assert agreement(question, "The shape has four equal sides and is blue. The answer is B.", "B") == 1.0


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["the answer is", "So,", "3", ".", "\n", "A", "=>", "option: ", "x"]), max_size=12))
def test_a_conclusion_is_the_end_of_the_thinking(pieces: list[str]) -> None:
    thinking = " ".join(pieces)
    found = conclusion(f"<think>{thinking}</think><answer>3</answer>")
    assert found is None or thinking.strip().endswith(found.answer)


def test_a_verification_that_gave_up_is_no_disagreement() -> None:
    config = RewardsConfig(agreement=AgreementConfig(), math={"timeout": 0.5})
    question = ask("math", "open", "2\\sqrt{3}")
    completion = f"<think>{THINKING} The answer is 9^{{9\\cdot 9^{{9}}}}</think><answer>\\sqrt{{12}}</answer>"
    found = shaped(question, completion, config)
    assert (found["accuracy"], found["agreement"]) == (1.0, None)


THOUGHTS = st.lists(st.sampled_from(["one above", "two below", "the answer is", "3", "4", ".", "so"]), max_size=40)


@settings(max_examples=200, deadline=None)
@given(THOUGHTS, THOUGHTS, st.sampled_from(["4", "17", "", "3 or 4"]))
def test_no_shaping_lets_a_wrong_answer_overtake_a_right_one(right: list[str], wrong: list[str], answer: str) -> None:
    """Whatever is thought around them, with equal form the right answer is worth more."""
    pair = [
        Completed(NUMBER, f"<think>because {' '.join(thinking)}</think><answer>{said}</answer>")
        for thinking, said in ((right, "3"), (wrong, answer or "-"))
    ]
    found = Parts(SHAPED).add(grade_all([row[:3] for row in pair], SHAPED), pair)
    assert found[0].format == found[1].format == 1.0
    worth = [total(each, SHAPED) for each in found]
    assert worth[0] is not None
    assert worth[1] is not None
    assert worth[0] > worth[1]


def test_the_total_is_the_weighted_sum_of_the_parts_that_are_there() -> None:
    completion = f"<think>{THINKING} The answer is 3.</think><answer>3</answer>"
    row = Completed(NUMBER, completion)
    [found] = Parts(SHAPED).add(grade_all([row[:3]], SHAPED), [row])
    assert list(found.parts) == ["format", "accuracy", "length", "repetition", "agreement"]
    by_hand = sum(SHAPED.weights()[name] * value for name, value in found.parts.items() if value is not None)
    assert total(found, SHAPED) == pytest.approx(by_hand)
    assert math.isfinite(by_hand)


def test_tokens_that_no_one_knows_are_no_length() -> None:
    config = RewardsConfig(length=LengthConfig(high=2, margin=1, unit="tokens"), repetition=RepetitionConfig(ngram=1))
    rows = [Completed(NUMBER, "a a", token_ids=ids) for ids in (None, (5, 5, 5), (5, 6))]
    found = Parts(config).add(grade_all([row[:3] for row in rows], config), rows)
    assert [each.parts["length"] for each in found] == [None, -1.0, 0.0]
    assert [each.parts["repetition"] for each in found] == [-0.5] * 3
    assert total(found[0], config) == pytest.approx(-0.05), "a part that is None is left out"


def test_without_shaping_a_grade_is_what_it_was() -> None:
    row = Completed(NUMBER, "<think>a</think><answer>3</answer>")
    plain = grade(*row[:3])
    assert Parts(RewardsConfig()).add([plain], [row]) == [plain]
    assert plain.parts == {"format": 1.0, "accuracy": 1.0}
    assert total(plain) == 2.0


def test_the_two_tables_of_shaping_name_the_same_parts() -> None:
    assert tuple(parts.SHAPING) == sections.SHAPING


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ({"length": {"high": 5, "margin": 5, "weight": 1.0}}, "not below accuracy_weight 1"),
        ({"length": {"high": 5, "margin": 5, "weight": 0.6}, "repetition": {"weight": 0.5}}, "lower them"),
        ({"length": {"low": 9, "high": 5, "margin": 5}}, "low 9 is not below high 5"),
        ({"length": {"high": 5}}, "Field required"),
        ({"accuracy_weight": 0, "format_weight": 0, "agreement": {"weight": 1}}, "nothing would be paid"),
        ({"custom": [{"name": "agreement", "call": "a.py:f"}]}, "the name agreement is taken"),
        ({"custom": [{"name": "a", "call": "a.py:f"}, {"name": "a", "call": "a.py:g"}]}, "the name a is taken"),
        ({"custom": [{"name": "A b", "call": "a.py:f"}]}, "pattern"),
        ({"custom": [{"name": "a", "call": "a.py"}]}, "names no function"),
        ({"custom": [{"name": "a", "call": "rm -rf.x:f"}]}, "neither a .py file nor a dotted module"),
        ({"custom": [{"name": "a", "call": "a.py:f", "weight": float("nan")}]}, "finite"),
    ],
)
def test_a_section_that_cannot_work_is_refused(section: dict[str, Any], rule: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=rule):
        RewardsConfig.model_validate(section)


def test_custom_rewards_alone_may_be_paid() -> None:
    custom = (CustomRewardConfig(name="a", call="a.py:f"),)
    assert RewardsConfig(format_weight=0, accuracy_weight=0, custom=custom).weights()["a"] == 1.0
