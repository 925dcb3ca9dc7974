# TRL's own trainer with the shared prompt of this project, on the embedded model. From the repository's root:
#   python examples/draw.py
#   python examples/trl_adapter.py
"""Three steps of ``SharedPrefixGRPOTrainer``, which is ``trl.GRPOTrainer`` but for what a prompt costs (docs/trl.md).

Needs ``pip install 'curr-reft[trl]'``. With a model of your own: its folder or hub name in place of ``MODEL``, and
``AutoProcessor.from_pretrained`` for the processor.
"""

import csv
from pathlib import Path

from datasets import Dataset
from PIL import Image
from transformers import AutoModelForImageTextToText
from trl import GRPOConfig

from curr_reft.integrations.trl import SharedPrefixGRPOTrainer
from curr_reft.policy.config import ModelConfig
from curr_reft.policy.load import load_chat_processor, model_folder
from curr_reft.rewards.trl import accuracy_reward, format_reward

MODEL = "embedded"
PICTURES = Path(__file__).with_name("pictures")


def rows() -> Dataset:
    """The columns that TRL needs (prompt, image) and those that the rewards need (task, form, solution)."""
    with (PICTURES / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = list(csv.DictReader(file))
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": label["question"] + "."}],
                "image": Image.open(PICTURES / label["photo"]),
                "task": "classification",
                "form": "open",
                "solution": label["label"],
            }
            for label in labels[:44]
        ]
    )


def main() -> None:
    trainer = SharedPrefixGRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(model_folder(MODEL), dtype="float32"),
        processing_class=load_chat_processor(ModelConfig(path=MODEL)).processor,
        reward_funcs=[format_reward, accuracy_reward],
        args=GRPOConfig(
            output_dir="runs/trl-adapter",
            num_generations=4,
            per_device_train_batch_size=8,  # two whole groups
            max_completion_length=48,
            max_steps=3,
            learning_rate=1e-4,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,  # leave it out with a GPU
            bf16=False,
        ),
        train_dataset=rows(),
    )
    trainer.train()


if __name__ == "__main__":
    main()
