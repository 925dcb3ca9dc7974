"""Both ways with TRL: its rewards unchanged in a step of ours, and our rewards unchanged in its GRPOTrainer."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from curr_reft.questions.question import Question
from curr_reft.rewards.config import CustomRewardConfig, LengthConfig, RewardsConfig
from curr_reft.rewards.grading import Completed, grade, grade_all, total
from curr_reft.rewards.parts import Parts
from curr_reft.rewards.trl import PartReward, accuracy_reward, format_reward, reward_functions

# --- TRL's in ours ---------------------------------------------------------------------------------------------------

TRL_REWARDS = (
    CustomRewardConfig(name="verified", call="trl.rewards:accuracy_reward"),
    CustomRewardConfig(name="thinks", call="trl.rewards:think_format_reward", weight=0.5),
    CustomRewardConfig(
        name="overlong",
        call="trl.rewards:get_soft_overlong_punishment",
        options={"max_completion_len": 6, "soft_punish_cache": 4},
    ),
    CustomRewardConfig(name="repeats", call="trl.rewards:get_repetition_penalty_reward", options={"ngram_size": 1}),
)


def test_rewards_of_trl_are_named_in_a_recipe_as_they_are() -> None:
    config = RewardsConfig(custom=TRL_REWARDS)
    question = Question(id="x", origin="x", task="math", form="open", prompt="6 x 7 = ?", truth="42")
    texts = ["<think>hm</think>\\boxed{42}", "<think>hm</think><answer>42</answer>", "\\boxed{41}"]
    tokens = [(1,), (1, 2, 2, 2), (1,) * 9]
    rows = [Completed(question, text, token_ids=ids) for text, ids in zip(texts, tokens, strict=True)]
    found = Parts(config).add(grade_all([row[:3] for row in rows], config), rows)
    assert [each.parts["verified"] for each in found] == [1.0, 0.0, 0.0]
    assert [each.parts["thinks"] for each in found] == [1.0, 1.0, 0.0]
    assert [each.parts["overlong"] for each in found] == [0.0, -0.5, -1.0]
    assert [each.parts["repeats"] for each in found] == pytest.approx([0.0, -0.5, -8 / 9])
    assert total(found[1], config) == pytest.approx(1 + 1 + 0.5 - 0.5 - 0.5)


# --- ours in TRL's ---------------------------------------------------------------------------------------------------

WORDS = ["<think>", "because", "</think>", "<answer>", "</answer>", "yes", "no", "42", "A", "B", "is", "it", "?"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model with random weights whose words are those of an answer."""
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = {word: place for place, word in enumerate(["[PAD]", "[EOS]", "[UNK]", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]", padding_side="left"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    return folder


ROWS = {
    "task": ["math", "math", "detection"],
    "form": ["open", "choice", "binary"],
    "solution": ["42", "A, B", "yes"],
    "options": [[], ["1", "2"], []],
}


class Watched:
    """A reward that keeps what it was asked and what it answered."""

    def __init__(self, reward: Callable[..., list[float | None]]) -> None:
        self.reward = reward
        self.__name__ = reward.__name__
        self.calls: list[tuple[dict[str, Any], list[float | None]]] = []

    def __call__(self, **given: Any) -> list[float | None]:
        values = self.reward(**given)
        self.calls.append((given, values))
        return values


def train(tiny: Path, folder: Path, prompts: list[Any], rewards: list[Any], weights: list[float]) -> GRPOTrainer:
    arguments = GRPOConfig(
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=6, num_generations=3, max_completion_length=8,
        learning_rate=1e-3, logging_steps=1, report_to=[], save_strategy="no", use_cpu=True, bf16=False, seed=1,
        reward_weights=weights, disable_tqdm=True,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=str(tiny),
        reward_funcs=rewards,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": prompts, **ROWS}),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("conversational", [False, True], ids=["texts", "messages"])
def test_trl_trains_with_our_rewards_as_they_are(tiny: Path, tmp_path: Path, conversational: bool) -> None:
    prompts: list[Any] = ["is it ?"] * 3
    if conversational:
        prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
    config = RewardsConfig(format_weight=0.5, length=LengthConfig(high=4, margin=4, weight=0.25))
    functions, weights = reward_functions(config)
    watched = [Watched(function) for function in functions]
    trainer = train(tiny, tmp_path, prompts, watched, weights)
    logs = [row for row in trainer.state.log_history if "reward" in row]
    assert len(logs) == 2
    for step, row in enumerate(logs):
        mine = [reward.calls[step][1] for reward in watched]
        for reward, values in zip(watched, mine, strict=True):
            known = [value for value in values if value is not None]
            assert row[f"rewards/{reward.__name__}/mean"] == pytest.approx(sum(known) / len(known), abs=1e-6)
        # What TRL calls the reward is our total of our own grades of these very texts.
        given = watched[0].calls[step][0]
        texts = [each[0]["content"] if conversational else each for each in given["completions"]]
        expected = [by_hand(*asked, config) for asked in zip(given["task"], given["form"], texts, strict=True)]
        assert row["reward"] == pytest.approx(sum(expected) / len(expected), abs=1e-6)
        assert len(texts) == 6
    lengths = [value for reward in watched[2:] for _, values in reward.calls for value in values]
    assert any(lengths), "random text of 8 words is charged, so the comparison is not of zeros"


def by_hand(task: str, form: str, text: str, config: RewardsConfig) -> float:
    truths = {("math", "open"): "42", ("math", "choice"): frozenset("AB"), ("detection", "binary"): True}
    question = Question(id="x", origin="x", task=task, form=form, prompt="", truth=truths[task, form])
    row = Completed(question, text)
    worth = total(Parts(config).add([grade(*row[:3], config)], [row])[0], config)
    assert worth is not None
    return worth


def say(answer: str) -> str:
    return f"<think>because</think><answer>{answer}</answer>"


def test_every_form_and_kind_of_completion_is_read() -> None:
    completions = [
        say("42"),
        [{"role": "assistant", "content": say("B, A")}],
        [{"role": "assistant", "content": [{"type": "text", "text": say("no")}]}],
    ]
    given = {"prompts": ["q"] * 3, "completions": completions, **ROWS, "anything": [1, 2, 3], "log_metric": print}
    assert accuracy_reward(**given) == [1.0, 1.0, 0.0]
    assert format_reward(**given) == [1.0, 1.0, 1.0]
    given["truth"] = given.pop("solution")
    assert accuracy_reward(**given) == [1.0, 1.0, 0.0]
    tagged = {**ROWS, "solution": ["<answer>42</answer>", "<answer>A,B</answer>", "<answer>no</answer>"]}
    assert accuracy_reward(prompts=["q"] * 3, completions=completions, **tagged) == [1.0, 1.0, 1.0]
    assert (accuracy_reward.__name__, format_reward.__name__) == ("accuracy_reward", "format_reward")


def test_no_score_is_none_and_a_bad_truth_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    reward = PartReward("accuracy", RewardsConfig(math={"timeout": 0.5}))
    hanging = {"completions": [say("9^{9\\cdot 9^{9}}"), say("3")], "solution": ["42", "3"]}
    assert reward(prompts=["", ""], task=["math"] * 2, form=["open"] * 2, **hanging) == [None, 1.0]
    for _ in range(3):
        bad = {"completions": [say("3")] * 2, "solution": ["", "3"]}
        assert reward(prompts=["", ""], task=["math"] * 2, form=["open"] * 2, **bad) == [None, 1.0]
    assert len([each for each in caplog.records if "no score for a row" in each.getMessage()]) == 1


def test_the_total_leaves_out_what_has_no_score() -> None:
    reward = PartReward("total", RewardsConfig(math={"timeout": 0.5}, custom=TRL_REWARDS[1:2]))
    given = {"completions": [[{"role": "assistant", "content": say(x)}] for x in ("9^{9\\cdot 9^{9}}", "3", "4")]}
    found = reward(prompts=[""] * 3, task=["math"] * 3, form=["open"] * 3, solution=["3"] * 3, **given)
    assert found == [None, 2.5, 1.5]


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="neither the column solution nor truth"):
        accuracy_reward(prompts=["q"], completions=["c"], task=["math"], form=["open"])
    with pytest.raises(ValueError, match="part 'length' is not among format, accuracy, total"):
        PartReward("length")


def test_a_threshold_that_tightens_follows_the_trainer() -> None:
    config = RewardsConfig(detection={"threshold": 0.3, "schedule": [[0.5, 0.7]]})
    given = {"prompts": ["q"], "completions": [say("[0,0,10,6]")], "task": ["detection"], "form": ["open"]}
    reward = PartReward("accuracy", config)

    class State:
        max_steps = 10
        global_step = 0

    earned = []
    for State.global_step in (0, 4, 5, 10):
        earned += reward(**given, solution=["[0,0,10,10]"], trainer_state=State)
    assert earned == [1.0, 1.0, 0.0, 0.0]
    assert reward(**given, solution=["[0,0,10,10]"]) == [0.0], "outside of a trainer the strictest"


def test_our_rewards_are_pickled_as_trl_does() -> None:
    again = pickle.loads(pickle.dumps(accuracy_reward))
    assert again(prompts=["q"], completions=[say("3")], task=["math"], form=["open"], solution=["3"]) == [1.0]
    assert again.__name__ == "accuracy_reward"
    assert json.dumps(again.parts.config.weights())
