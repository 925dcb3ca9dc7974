"""Advantages and the policy losses, one small function each.

Sources: GRPO: Shao et al., arXiv 2402.03300, and Curr-ReFT section 3.1; Dr. GRPO: Liu et al., arXiv 2503.20783;
DAPO: Yu et al., arXiv 2503.14476; GSPO: Zheng et al., arXiv 2507.18071; the k3 estimator: Schulman 2020.
"""

import math
from collections.abc import Sequence

import torch

STD_FLOOR = 1e-4


def group_advantages(rewards_G: Sequence[float | None], *, scale: bool = True) -> list[float | None]:
    """Reward minus the group's mean, over its unbiased standard deviation + 1e-4 (``scale`` False: no division).

    A completion without a score (None) stays out of mean and deviation and has no advantage. A group with fewer than
    two scores teaches nothing: its advantages are 0.
    """
    scored = [reward for reward in rewards_G if reward is not None]
    if len(scored) < 2:
        return [None if reward is None else 0.0 for reward in rewards_G]
    mean = math.fsum(scored) / len(scored)
    deviation = math.sqrt(math.fsum((reward - mean) ** 2 for reward in scored) / (len(scored) - 1))
    divisor = deviation + STD_FLOOR if scale else 1.0
    return [None if reward is None else (reward - mean) / divisor for reward in rewards_G]


def token_weights(lengths: Sequence[int], loss: str, max_new_tokens: int) -> list[float]:
    """Weight of every token of completion i in the step's loss, for N completions of ``lengths`` tokens.

    grpo, gspo: mean over the tokens of a completion, then over completions. dapo: mean over all tokens.
    dr_grpo: sum over tokens divided by N times the token limit, so that length earns nothing.
    """
    count = len(lengths)
    if loss in ("grpo", "gspo"):
        return [1 / (length * count) for length in lengths]
    if loss == "dapo":
        return [1 / sum(lengths)] * count
    if loss == "dr_grpo":
        return [1 / (count * max_new_tokens)] * count
    raise ValueError(f"unknown loss {loss!r}")


def log_ratio(
    logprobs_S: torch.Tensor, old_logprobs_S: torch.Tensor | None, completion_S: torch.Tensor | None, loss: str
) -> torch.Tensor:
    """Log of the importance ratio of every token; exactly 0, with gradient, when on-policy.

    gspo: the mean over the completion, whose gradient flows through every token.
    """
    old = logprobs_S.detach() if old_logprobs_S is None else old_logprobs_S
    difference_S = logprobs_S - old
    if loss != "gspo":
        return difference_S
    assert completion_S is not None
    # A place for every token, as there are no more completions: how many there are, a GPU would have to be asked.
    sums = torch.zeros_like(difference_S)
    sizes = sums.index_add(0, completion_S, torch.ones_like(difference_S)).clamp(min=1)
    means = sums.index_add(0, completion_S, difference_S) / sizes
    return means[completion_S]


def policy_loss(
    log_ratio_S: torch.Tensor, advantages_S: torch.Tensor, clip_low: float, clip_high: float
) -> torch.Tensor:
    """The clipped surrogate of every token, to be minimised."""
    ratio_S = log_ratio_S.exp()
    clipped_S = ratio_S.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio_S * advantages_S, clipped_S * advantages_S)


def k3(logprobs_S: torch.Tensor, reference_S: torch.Tensor) -> torch.Tensor:
    """Schulman's estimator of KL(policy || reference) for every token: never negative, 0 where they agree."""
    difference_S = reference_S - logprobs_S
    return difference_S.exp() - difference_S - 1
