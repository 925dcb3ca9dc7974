"""What tests of exactness compare: log-probabilities, and the gradients of one weighted sum of them."""

import torch

from curr_reft.policy.load import Policy


def scored(policy: Policy, logprobs_S: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Values, and the gradient of one weighted sum of them."""
    policy.model.zero_grad()
    (logprobs_S * torch.linspace(-1, 2, len(logprobs_S))).sum().backward()
    gradients = {name: p.grad.clone() for name, p in policy.model.named_parameters() if p.grad is not None}
    return logprobs_S.detach(), gradients
