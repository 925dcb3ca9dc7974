"""SharedPrefixGRPOTrainer against trl.GRPOTrainer: metrics and weights on the same tokens, completions, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer

from curr_reft.bench import peer
from curr_reft.bench.oracle import TOLERANCE, largest_difference, tokens_of
from curr_reft.bench.shape import Shape
from curr_reft.bench.subject import build_model, build_processor, suppressed_ids
from curr_reft.bench.work import Options
from curr_reft.errors import UsageError
from curr_reft.integrations import trl_limits
from curr_reft.integrations.trl import SharedPrefixGRPOTrainer

SHAPE = Shape(P=28, C=6, G=4)
TIMES = ("time", "runtime", "per_second")  # parts of names of metrics that no two runs share


class _Given:
    """Completions that are given instead of sampled."""

    def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        return tokens_of(SHAPE, self.state.global_step), None  # type: ignore[attr-defined]


class GivenPlain(_Given, GRPOTrainer):
    pass


class GivenShared(_Given, SharedPrefixGRPOTrainer):
    pass


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Any]:
    """``build(class, steps=3, lora=False, model=..., **fields of GRPOConfig)``"""

    def make(
        trainer_class: type, steps: int = 3, lora: bool = False, model: Any = None, **config: Any
    ) -> SharedPrefixGRPOTrainer:
        return peer.build_trainer(
            trainer_class,
            build_model() if model is None else model,
            build_processor(),
            SHAPE,
            steps,
            Options(lora=lora),
            tmp_path / trainer_class.__name__,
            **{"learning_rate": 1e-5, "logging_strategy": "steps", "logging_steps": 1, **config},
        )

    return make


def histories(*trainers: Any) -> list[list[dict[str, float]]]:
    """What was logged, without times."""
    return [
        [
            {name: value for name, value in row.items() if not any(part in name for part in TIMES)}
            for row in trainer.state.log_history
        ]
        for trainer in trainers
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss_type": "dapo", "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"loss_type": "dr_grpo", "num_iterations": 2, "temperature": 0.7},
        # Matrices A start with a gradient of 0: by AdamW's usual epsilon the rounding in it would become a whole step.
        {"lora": True, "beta": 0.1, "learning_rate": 1e-4, "adam_epsilon": 1e-5},
        {"mask_truncated_completions": True, "importance_sampling_level": "sequence"},
        {"top_entropy_quantile": 0.5, "entropy_coef": 0.01},
    ],
    ids=lambda settings: ",".join(settings) or "default",
)
def test_metrics_and_weights_are_those_of_trl(build: Callable[..., Any], settings: dict[str, Any]) -> None:
    plain, shared = build(GivenPlain, **settings), build(GivenShared, **settings)
    for trainer in (plain, shared):
        trainer.train()
    assert largest_difference(plain.model, shared.model) <= TOLERANCE
    theirs, ours = histories(plain, shared)
    assert len(theirs) >= 4
    for their_row, our_row in zip(theirs, ours, strict=True):
        if "per_device_train_batch_size" in settings and "entropy" in their_row:
            # A mean over micro-batches, and TRL shuffles rows before it cuts them: other rows stand together.
            assert our_row.pop("entropy") == pytest.approx(their_row.pop("entropy"), rel=1e-4)
        assert our_row == pytest.approx(their_row, abs=1e-5)
    start = build(GivenPlain, **settings).model
    assert largest_difference(plain.model, start) > 20 * TOLERANCE


def test_a_reference_model_from_disk(build: Callable[..., Any], tmp_path: Path) -> None:
    build_model().save_pretrained(tmp_path / "base")
    trained = []
    for trainer_class in (GivenPlain, GivenShared):
        model = build_model()
        model.config.name_or_path = str(tmp_path / "base")
        trainer = build(trainer_class, model=model, beta=0.5, steps=2)
        trainer.train()
        trained.append(trainer)
    assert largest_difference(trained[0].model, trained[1].model) <= TOLERANCE
    kl = [row["kl"] for row in histories(trained[1])[0] if "kl" in row]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert kl[1] > 0


def test_greedy_completions_are_those_of_trl(build: Callable[..., Any]) -> None:
    sampled = []
    for trainer_class in (GRPOTrainer, SharedPrefixGRPOTrainer):
        trainer = build(trainer_class, top_k=1)
        inputs = [row for row in (trainer.train_dataset[0], trainer.train_dataset[1]) for _ in range(SHAPE.G)]
        trainer.model.train()
        sampled.append(trainer._generate_and_score_completions(inputs)["completion_ids"].tolist())
    assert sampled[0] == sampled[1]
    assert sampled[0][0] == sampled[0][1] != sampled[0][SHAPE.G]


def test_sampling_differs_within_a_group_and_repeats_with_the_seed(build: Callable[..., Any]) -> None:
    runs = []
    for _ in range(2):
        trainer = build(SharedPrefixGRPOTrainer)
        trainer.model.train()
        output = trainer._generate_and_score_completions([trainer.train_dataset[0]] * SHAPE.G)
        runs.append(output["completion_ids"].tolist())
    assert runs[0] == runs[1]
    assert len({tuple(row) for row in runs[0]}) == SHAPE.G
    assert not {token for row in runs[0] for token in row} & set(suppressed_ids())


def test_images_are_processed_once_a_prompt_and_stay_whole_groups(build: Callable[..., Any]) -> None:
    trainer = build(SharedPrefixGRPOTrainer, steps=1)
    processor = trainer.processing_class.image_processor
    calls = []

    class Counting:
        def __call__(self, images: Any, *arguments: Any, **options: Any) -> Any:
            calls.append(images)
            return processor(images, *arguments, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(processor, name)

    trainer.processing_class.image_processor = Counting()
    forwards = []
    trainer.model.model.language_model.register_forward_pre_hook(
        lambda module, _, given: forwards.append(given["inputs_embeds"].shape[1]), with_kwargs=True
    )
    trainer.train()
    assert len(calls) == 2
    assert forwards[0] == 2 * SHAPE.P  # prefill
    assert forwards[1:-1] == [2 * SHAPE.G] * (SHAPE.C - 1)  # decoding
    assert forwards[-1] == 2 * (SHAPE.P + SHAPE.G * (SHAPE.C - 1))  # training


def test_rewards_see_the_columns_of_the_dataset_and_evaluation_runs(build: Callable[..., Any]) -> None:
    trainer = build(SharedPrefixGRPOTrainer, steps=1, per_device_eval_batch_size=4)
    seen: list[Any] = []

    def reward(prompts: Any, completions: Any, image: Any, **_: Any) -> list[float]:
        seen.append((prompts, image))
        return [float(len(completion[0]["content"]) % 3) for completion in completions]

    trainer.reward_funcs[0] = reward
    metrics = trainer.evaluate(trainer.train_dataset)
    assert "eval_reward" in metrics
    prompts, images = seen[0]
    assert images[0].size == SHAPE.image_size
    assert prompts[0][0]["content"][0]["type"] == "image"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"repetition_penalty": 1.1}, "repetition_penalty = 1.1"),
        ({"min_p": 0.1}, "min_p = 0.1"),
        ({"cache_implementation": "static"}, "cache_implementation = static"),
        ({"cast_lm_head_to_fp32": True}, "cast_lm_head_to_fp32 = True"),
        ({"generation_kwargs": {"num_beams": 2}}, "generation_kwargs has num_beams"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_supported_is_refused_by_name(
    build: Callable[..., Any], config: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=named) as refused:
        build(SharedPrefixGRPOTrainer, **config)
    assert "use trl.GRPOTrainer" in str(refused.value)


def test_tools_are_refused(build: Callable[..., Any]) -> None:
    arguments = build(SharedPrefixGRPOTrainer).args
    with pytest.raises(UsageError, match="tools is given"):
        SharedPrefixGRPOTrainer(build_model(), [len], arguments, processing_class=build_processor(), tools=[len])


def test_another_version_of_trl_explains_itself(build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trl_limits.check_version("1.16.3")
    monkeypatch.setattr("trl.__version__", "1.17.0")
    with pytest.raises(UsageError, match=r"trl 1\.17\.0 is installed.*trl 1\.16.*curr-reft run"):
        build(SharedPrefixGRPOTrainer)


def test_a_model_that_cannot_share_is_refused(build: Callable[..., Any]) -> None:
    model = build_model()
    model.config.text_config.attention_dropout = 0.1
    with pytest.raises(UsageError, match="attention_dropout") as refused:
        build(SharedPrefixGRPOTrainer, model=model)
    assert str(refused.value).endswith("Use trl.GRPOTrainer")


def test_cut_groups_are_refused(build: Callable[..., Any]) -> None:
    trainer = build(SharedPrefixGRPOTrainer)
    with pytest.raises(UsageError, match="num_generations = 4"):
        trainer._generate_and_score_completions([trainer.train_dataset[0]] * 3)
    mixed = [trainer.train_dataset[number] for number in (0, 0, 1, 1)]
    with pytest.raises(UsageError, match="whole groups"):
        trainer._generate_and_score_completions(mixed)
