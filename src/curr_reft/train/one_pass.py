"""When one pass of a trained vision tower serves both the rollout and the update that follows it.

On-policy, the weights that sample are those that are trained, so the update may go on from the graph of the rollout's
pass (``policy/features.py``). It is asked for where that cannot cost memory: where the update is a single micro-batch,
which holds the tower's activations for all images at its peak anyway.
"""

from collections.abc import Sequence

from curr_reft.policy.beginnings import repeated_tokens
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.features import is_frozen
from curr_reft.policy.policy import Policy
from curr_reft.policy.types import EncodedPrompt
from curr_reft.train.config import RlConfig

LEAST_SHARE = 2 / 3
"""Backward through the rollout's pass runs over all its images, which costs twice their forward. A pass of its own
over the images that are trained on costs three times theirs."""


def continues_vision(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    config: RlConfig,
    sampling: SamplingConfig,
    budget: int | None,
) -> bool:
    """Whether the rollout of ``prompts`` should keep the graph of the vision tower.

    ``budget`` is the tokens of a micro-batch; None: not known yet.
    """
    most_tokens = sum(prompt.length + sampling.group_size * (sampling.max_new_tokens - 1) for prompt in prompts)
    most_tokens -= repeated_tokens(prompts)
    return (
        policy.packed
        and policy.sharding is None  # the weights of the rollout's pass are gone by the time of its backward
        and not is_frozen(policy.vision_parameters)
        and not policy.core.is_gradient_checkpointing  # memory is what is short then
        and config.objective.updates_per_batch == 1
        and config.resample is None  # another rollout may come before the update
        and budget is not None
        and most_tokens <= budget
    )


def worth_continuing(seen: Sequence[EncodedPrompt], trained: Sequence[EncodedPrompt]) -> bool:
    """Whether enough of the images that were ``seen`` are trained on."""
    return _pixels(trained) >= LEAST_SHARE * _pixels(seen)


def _pixels(prompts: Sequence[EncodedPrompt]) -> int:
    """Numbers in the distinct images of ``prompts``."""
    images = {id(each): each for prompt in prompts for each in prompt.pixel_inputs.values()}
    return sum(each.numel() for each in images.values())
