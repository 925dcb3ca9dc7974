"""The measured process of TRL's side: its own trainer with its own loop, told when to make a step.

Its defaults, but for what has to be the same: float32 without gradient checkpointing (unless asked for), the ``grpo``
loss, one batch and one update a step, special tokens suppressed so that completions have exactly C tokens. Images are
in memory, and fetching a batch is not counted.
"""

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import ProcessorMixin, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from curr_reft.bench.link import Link
from curr_reft.bench.shape import Shape
from curr_reft.bench.subject import image_of, reward_of, suppressed_ids, text_of
from curr_reft.bench.work import PROMPTS, Options
from curr_reft.policy.config import LoraConfig
from curr_reft.policy.families import TEXT_LAYERS


class _OnOrder(TrainerCallback):
    """Waits before every step and reports after it."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.link.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.link.finish()


def build_trainer(
    trainer_class: type[GRPOTrainer],
    model: Any,
    processor: ProcessorMixin,
    shape: Shape,
    steps: int,
    options: Options,
    folder: Path,
    **config: Any,
) -> GRPOTrainer:
    """A trainer on the subject's prompts; ``config`` overrides fields of GRPOConfig."""
    fields: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": PROMPTS * shape.G,
        "num_generations": shape.G,
        "max_completion_length": shape.C,
        "max_steps": steps,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "loss_type": "grpo",
        "beta": 0.0,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": options.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if options.gradient_checkpointing else None,
        "shuffle_dataset": False,
        "generation_kwargs": {"suppress_tokens": suppressed_ids()},
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return trainer_class(
        model=model,
        reward_funcs=[_reward],
        args=GRPOConfig(**{**fields, **config}),
        train_dataset=build_dataset(shape, PROMPTS * steps),
        processing_class=processor,
        peft_config=_lora() if options.lora else None,
    )


def run(trainer: GRPOTrainer, shape: Shape, link: Link) -> None:
    """All steps of the trainer, each when it is ordered."""
    generate = trainer._generate_and_score_completions

    def generate_and_note(inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = generate(inputs)
        assert output["prompt_ids"].shape[1] == shape.P
        assert output["completion_mask"].sum(1).tolist() == [shape.C] * len(inputs)
        link.generated()
        return output

    vars(trainer)[generate.__name__] = generate_and_note  # on this one object
    trainer.add_callback(_OnOrder(link))
    trainer.train()


def build_dataset(shape: Shape, count: int) -> Dataset:
    """Rows made when they are asked for, so that no image is decoded."""

    def rows(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        return {
            "prompt": [[{"role": "user", "content": text_of(shape, number)}] for number in batch["number"]],
            "image": [image_of(shape, number) for number in batch["number"]],
        }

    dataset = Dataset.from_dict({"number": list(range(count))})
    dataset.set_transform(rows)
    return dataset


def _reward(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
    return [reward_of(tokens) for tokens in completion_ids]


def _lora() -> Any:
    from peft import LoraConfig as PeftConfig

    ours = LoraConfig()
    return PeftConfig(
        r=ours.rank,
        lora_alpha=ours.alpha,  # type: ignore[arg-type]
        lora_dropout=ours.dropout,
        target_modules=rf".*language_model.*\.({'|'.join(TEXT_LAYERS)})",
    )
