"""A step of TRL on the device and the model of the GPU measurement."""

import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from curr_reft.bench.accelerator import peak_bytes, reset_peak, synchronize
from curr_reft.bench.plan import Plan
from curr_reft.bench.scale import build_random
from curr_reft.bench.subject import build_processor
from curr_reft.bench.work import PROMPTS, Options
from curr_reft.errors import UsageError


def trl_step(plan: Plan) -> dict[str, Any]:
    """Its own trainer on two prompts, gradient checkpointing as its default is. Raises UsageError without TRL."""
    if find_spec("trl") is None:
        raise UsageError("TRL is not installed; pip install 'curr-reft[trl]'")
    from trl import GRPOTrainer

    from curr_reft.bench import peer

    model = build_random(plan.config(), plan.device, plan.dtype)
    clock = Clock(plan.device)
    cpu = plan.device.type == "cpu"
    reset_peak(plan.device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = peer.build_trainer(
            GRPOTrainer,
            model,
            build_processor(model.config.get_text_config().vocab_size),
            plan.shape,
            2,  # steps; the first warms up
            Options(gradient_checkpointing=True),
            Path(folder),
            use_cpu=cpu,
            bf16=not cpu,
        )
        trainer.add_callback(clock)
        trainer.train()
    seconds = clock.steps[-1]
    rate = PROMPTS * plan.shape.G / seconds
    peak = peak_bytes(plan.device)
    return {"prompts": PROMPTS, "seconds": seconds, "rollouts_per_second": rate, "peak_bytes": peak}


class Clock(TrainerCallback):
    """Seconds of each of TRL's steps."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.began = device, 0.0
        self.steps: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        synchronize(self.device)
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        synchronize(self.device)
        self.steps.append(time.perf_counter() - self.began)
