"""A check at the start of training: the packed row and the plain computation agree on one group, or nothing starts.

Families are tested with tiny models; this holds for the very model, number type and device of the run.
"""

import torch

from curr_reft.errors import TrainingError
from curr_reft.policy.logprobs import packed_logprobs, plain_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.policy import Policy
from curr_reft.policy.types import Group

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""Largest mean difference of log-probabilities. A wrong position or mask shows as 0.3 and more; rounding as 1e-6 in
float32 and as some hundredths in bfloat16."""


def check_packed(policy: Policy, group: Group) -> float:
    """The mean absolute difference over the group's tokens. Raises TrainingError above the tolerance.

    The group should have two or more completions of several tokens, else there is nothing to confuse.
    """
    was_training = policy.model.training
    policy.model.eval()  # dropout would differ
    try:
        with torch.no_grad():
            packed_S = packed_logprobs(policy, pack([group], policy.family))
            difference = float((packed_S - plain_logprobs(policy, group)).abs().mean())
    finally:
        policy.model.train(was_training)
    limit = TOLERANCE.get(next(policy.core.parameters()).dtype, 0.1)
    if not difference <= limit:  # NaN fails too
        raise TrainingError(
            f"the packed row differs from the plain computation by {difference:.2g} on average (at most {limit:g}); "
            "set model.packed to false, and please report the model"
        )
    return difference
