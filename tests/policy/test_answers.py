"""Answers to many questions: asked image by image, and each what it would be in any other order."""

from dataclasses import dataclass

import pytest
from PIL import Image

from curr_reft import processes
from curr_reft.policy import answers
from curr_reft.policy.answers import answer_all
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.dealing import by_image, deal_questions
from curr_reft.policy.rollout import Among, rollout
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.seeding import derive_seed

SAMPLING = SamplingConfig(group_size=2, max_new_tokens=6)


@dataclass(frozen=True)
class Drawn:
    image: Image.Image
    key: str

    @property
    def size(self):
        return self.image.size

    def open(self):
        return self.image


@pytest.fixture
def questions(picture):
    """Of three images in turn, one question without an image among them."""
    images = [Drawn(picture(seed), f"picture {seed}") for seed in range(3)]
    words = ("find the red circle", "how many red", "list the objects")
    return [
        Question(
            id=f"{n}/binary",
            origin=str(n),
            task="detection",
            form="binary",
            prompt=words[n // 3 % 3],
            truth=True,
            images=() if n == 4 else (images[n % 3],),
        )
        for n in range(10)
    ]


def texts(answered):
    return [[answer.completion for answer in group] for group in answered]


def test_order(questions):
    assert by_image(questions) == [0, 3, 6, 9, 1, 7, 2, 5, 8, 4]


@pytest.mark.parametrize("seed", [7, [[10 * n, 10 * n + 1] for n in range(10)]])
def test_an_answer_does_not_depend_on_what_is_asked_beside_it(policy, questions, monkeypatch, seed):
    """In chunks of four, which split every image: the answers are those of sampling the chunks as they lie."""
    monkeypatch.setattr(answers, "CHUNK", 4)
    expected = []
    for start in range(0, 10, 4):
        part = questions[start : start + 4]
        prompts = [policy.processor.encode_question(question) for question in part]
        seeds = derive_seed(seed, start) if isinstance(seed, int) else seed[start : start + 4]
        expected += [[c.text for c in g.completions] for g in rollout(policy, prompts, SAMPLING, seed=seeds)]
    image, shown = policy.core.config.image_token_id, []
    hook = policy.model.register_forward_pre_hook(
        lambda module, args, kwargs: shown.append(int((kwargs["input_ids"] == image).sum())), with_kwargs=True
    )
    answered = answer_all(policy, questions, SAMPLING, RewardsConfig(), seed=seed)
    hook.remove()
    assert texts(answered) == expected
    assert [group[0].question for group in answered] == questions
    assert len({text for group in texts(answered) for text in group}) > 10
    # The chunks hold one image, two, and one that was shown before with text alone: 4 times instead of 9.
    assert [tokens / shown[0] for tokens in shown] == [1, 2, 1]


def test_prompts_of_several_lists(policy, questions):
    prompts = [policy.processor.encode_question(question) for question in questions[:4]]
    first, second = (rollout(policy, prompts, SAMPLING, seed=seed) for seed in (1, 2))
    mixed = [Among(seed=2, places=(3,), count=4), Among(seed=1, places=(0, 2), count=4)]
    got = rollout(policy, [prompts[3], prompts[0], prompts[2]], SAMPLING, seed=mixed)
    for ours, theirs in zip(got, (second[3], first[0], first[2]), strict=True):
        assert [c.tokens_T.tolist() for c in ours.completions] == [c.tokens_T.tolist() for c in theirs.completions]


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_one_image_goes_to_one_process(policy, questions, monkeypatch, count):
    monkeypatch.setattr(processes, "_team", processes.Team(rank=0, count=count, group=None))
    hands = deal_questions(questions, policy.frame)
    assert sorted(place for hand in hands for place in hand) == list(range(10))
    assert all(hand == sorted(hand) for hand in hands)
    if count == 3:
        assert {0, 3, 6, 9} in map(set, hands)
    if count == 10:
        assert all(len(hand) == 1 for hand in hands)
