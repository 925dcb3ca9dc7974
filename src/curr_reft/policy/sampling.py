"""One token from logits and one uniform number: temperature is applied before, top-k and top-p here."""

import torch

from curr_reft.policy.config import SamplingConfig


def draw(
    logits_AV: torch.Tensor, uniform_A: torch.Tensor, sampling: SamplingConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row, and its log-probability (A) under all of ``logits_AV``, whatever top-k and top-p cut away.

    ``logits_AV`` float32 with the temperature applied; ``uniform_A`` in [0, 1).
    """
    if sampling.temperature == 0:
        tokens_A = logits_AV.argmax(-1)
        return tokens_A, _logprobs(logits_AV, tokens_A)
    remaining_AV = cut(logits_AV, sampling.top_p, sampling.top_k)
    probabilities_AV = remaining_AV.softmax(-1)
    tokens_A = _choose(probabilities_AV, uniform_A)
    if remaining_AV is not logits_AV:
        return tokens_A, _logprobs(logits_AV, tokens_A)
    # A chosen token's probability is no smaller than the step between sums, so its logarithm is exact enough, and the
    # vocabulary is not gone through once more.
    return tokens_A, probabilities_AV.gather(1, tokens_A[:, None])[:, 0].log()


def _choose(probabilities_AV: torch.Tensor, uniform_A: torch.Tensor) -> torch.Tensor:
    cumulative_AV = probabilities_AV.cumsum(-1)
    total_A = cumulative_AV[:, -1]
    # Below the total even after rounding, so the chosen token is one whose probability is above 0.
    point_A = torch.minimum(uniform_A * total_A, torch.nextafter(total_A, torch.zeros_like(total_A)))
    tokens_A = torch.searchsorted(cumulative_AV, point_A[:, None], right=True)[:, 0]
    # Of logits that are not numbers none is found; a token that there is lets the rollout end, and say so.
    return tokens_A.clamp_max(cumulative_AV.shape[1] - 1)


def _logprobs(logits_AV: torch.Tensor, tokens_A: torch.Tensor) -> torch.Tensor:
    return logits_AV.gather(1, tokens_A[:, None])[:, 0] - logits_AV.logsumexp(-1)


def cut(logits_AV: torch.Tensor, top_p: float, top_k: int) -> torch.Tensor:
    """-inf outside the ``top_k`` most likely tokens (0: all) and outside the smallest set that reaches ``top_p``."""
    if 0 < top_k < logits_AV.shape[1]:
        least_A = logits_AV.topk(top_k, dim=-1).values[:, -1:]
        logits_AV = logits_AV.masked_fill(logits_AV < least_A, -torch.inf)
    if top_p < 1:
        ordered_AV, order_AV = logits_AV.sort(descending=True, dim=-1)
        probabilities_AV = ordered_AV.softmax(-1)
        before_AV = probabilities_AV.cumsum(-1) - probabilities_AV
        outside_AV = torch.zeros_like(before_AV, dtype=torch.bool).scatter(1, order_AV, before_AV >= top_p)
        logits_AV = logits_AV.masked_fill(outside_AV, -torch.inf)
    return logits_AV
