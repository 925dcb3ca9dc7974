"""The learning rate as a function of the step, so that a resumed run needs no scheduler state."""

import math

from curr_reft.train.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, budget: int) -> float:
    """Rate of update ``step`` (1-based) out of ``budget``: linear warm-up, then the schedule down to 0."""
    warmup = math.ceil(config.warmup * budget)
    if step <= warmup:
        return config.lr * step / warmup
    progress = (step - 1 - warmup) / max(1, budget - warmup)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "linear":
        return config.lr * (1 - progress)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
