"""A tiny model with random weights, questions to ask it, and rewards that its babble differs in."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from curr_reft.curriculum.sampler import QuestionSampler
from curr_reft.embedded.architecture import build_model
from curr_reft.embedded.tokenizer import build_tokenizer
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.image_text import ImageTextProcessor
from curr_reft.policy.load import Policy, load_policy
from curr_reft.prepare import Prepared, load_items, prepare
from curr_reft.questions.question import Question
from curr_reft.recipe import load_recipe
from curr_reft.rewards.config import RewardsConfig
from curr_reft.rewards.grade import Grade, Status
from curr_reft.train.config import ObjectiveConfig, OptimizerConfig, ResampleConfig, RlConfig
from curr_reft.train.grpo import GrpoObjective

SAMPLING = SamplingConfig(group_size=4, max_new_tokens=8)
BUDGET = 8  # steps of the stage; some tests stop before, none goes on after


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("random-model")
    model, tokenizer = build_model(0), build_tokenizer()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=112 * 112)
    ImageTextProcessor(images, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(folder)
    return folder


@pytest.fixture
def fresh(random_model: Path) -> Callable[..., Policy]:
    """A policy that a test may change: ``fresh(lora={"rank": 4})``."""

    def build(**options: Any) -> Policy:
        torch.manual_seed(0)  # of an adapter
        return load_policy(ModelConfig(path=str(random_model), **options))

    return build


@pytest.fixture(scope="session")
def prepared(random_model: Path) -> Prepared:
    recipe = load_recipe(tiny_run.RECIPE)
    return prepare(recipe, load_items(recipe), load_policy(random_model).frame)


def babble_grade(rows: Sequence[tuple[Question, str, bool]], *_: object) -> list[Grade]:
    """Grades that differ within a group, whatever the text is."""
    return [
        Grade(status=Status.OK, format=float(len(text) % 2), accuracy=sum(map(ord, text)) % 5 / 4, correct=False)
        for _, text, _ in rows
    ]


@pytest.fixture
def babble(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the grades of rollouts: ``babble()`` or ``babble(function)``."""

    def use(grades: Callable[..., list[Grade]] = babble_grade) -> None:
        monkeypatch.setattr("curr_reft.train.grpo.grade_all", grades)

    use()
    return use


@pytest.fixture
def grpo(prepared: Prepared, babble: object) -> Callable[..., GrpoObjective]:
    """``grpo(policy, reference=..., beta=0.1, updates_per_batch=2, micro_batch_tokens=64)``"""

    def build(
        policy: Policy,
        reference: Any = None,
        micro_batch_tokens: int = 16_384,
        prompts: int = 3,
        resample: dict[str, Any] | None = None,
        one_prompt_pass: bool = False,
        **objective: Any,
    ) -> GrpoObjective:
        objective.setdefault("beta", 0.0 if reference is None else 0.1)
        config = RlConfig(
            prompts_per_step=prompts,
            micro_batch_tokens=micro_batch_tokens,
            resample=None if resample is None else ResampleConfig(**resample),
            one_prompt_pass=one_prompt_pass,
            optimizer=OptimizerConfig(lr=1e-3),
            objective=ObjectiveConfig(**objective),
        )
        shares = {"open": 0.7, "binary": 0.3}
        sampler = QuestionSampler({form: prepared.of("train", form) for form in shares}, shares, prompts, seed=1)
        return GrpoObjective(
            policy,
            sampler,
            config,
            SAMPLING,
            RewardsConfig(),
            seed=1,
            budget=BUDGET,
            reference=reference,
            replacement=sampler.replacement,
        )

    return build
