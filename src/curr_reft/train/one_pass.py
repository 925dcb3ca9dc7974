"""When one pass of the rollout serves the update that follows it too: the vision tower's, or all of the prompts'.

On-policy, the weights that sample are those that are trained, so the update may go on from the graph of the rollout's
pass (``policy/features.py``, ``policy/prompt_pass.py``). It is asked for where that cannot cost memory: where the
update is a single micro-batch, which holds the activations of all prompts and images at its peak anyway.
"""

from collections.abc import Sequence

from torch import nn

from curr_reft.policy.beginnings import repeated_tokens
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.features import is_frozen
from curr_reft.policy.policy import Policy
from curr_reft.policy.sample import Graph
from curr_reft.policy.types import EncodedPrompt
from curr_reft.train.config import RlConfig

LEAST_SHARE = 2 / 3
"""Backward through the rollout's pass runs over all it saw, which costs twice its forward. A pass of its own over what
is trained on costs three times its forward."""


def kept_graph(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    config: RlConfig,
    sampling: SamplingConfig,
    budget: int | None,
) -> Graph | None:
    """What the rollout of ``prompts`` should keep for the update.

    ``budget`` is the tokens of a micro-batch; None: not known yet.
    """
    if not _is_one_micro_batch(policy, prompts, config, sampling, budget):
        return None
    rows_that_fit = sampling.rows_at_once if policy.rows_that_fit is None else policy.rows_that_fit
    together = len(prompts) * sampling.group_size <= min(sampling.rows_at_once, rows_that_fit)
    if config.one_prompt_pass and together and not has_dropout(policy.model):
        return "prompts"
    return None if is_frozen(policy.vision_parameters) else "vision"


def _is_one_micro_batch(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    config: RlConfig,
    sampling: SamplingConfig,
    budget: int | None,
) -> bool:
    """Whether the update is one, of all groups at once, by the weights of the rollout."""
    most_tokens = sum(prompt.length + sampling.group_size * (sampling.max_new_tokens - 1) for prompt in prompts)
    most_tokens -= repeated_tokens(prompts)
    return (
        policy.packed
        and policy.sharding is None  # the weights of the rollout's pass are gone by the time of its backward
        and not policy.core.is_gradient_checkpointing  # memory is what is short then
        and config.objective.updates_per_batch == 1
        and config.resample is None  # another rollout may come before the update
        and budget is not None
        and most_tokens <= budget
    )


def has_dropout(model: nn.Module) -> bool:
    """Whether training computes something else than sampling, which leaves nothing out."""
    return any(_drops(module) for module in model.modules())


def _drops(module: nn.Module) -> bool:
    """By its class, or by the share that attention of transformers drops."""
    if isinstance(module, nn.Dropout):
        return module.p > 0
    shares = (getattr(module, name, None) for name in ("attention_dropout", "dropout"))
    return any(isinstance(share, float) and share > 0 for share in shares)


def worth_continuing(seen: Sequence[EncodedPrompt], trained: Sequence[EncodedPrompt]) -> bool:
    """Whether enough of the images that were ``seen`` are trained on; of prompts without images, of their tokens."""
    size = _pixels if _pixels(seen) else _tokens
    return size(trained) >= LEAST_SHARE * size(seen)


def _tokens(prompts: Sequence[EncodedPrompt]) -> int:
    return sum(prompt.length for prompt in prompts)


def _pixels(prompts: Sequence[EncodedPrompt]) -> int:
    """Numbers in the distinct images of ``prompts``."""
    images = {id(each): each for prompt in prompts for each in prompt.pixel_inputs.values()}
    return sum(each.numel() for each in images.values())
