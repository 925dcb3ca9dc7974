"""A check at the start of a run: sampling, the packed row and the plain computation agree on one group, alone and
beside another about its image, or none starts.

Families are tested with tiny models; this holds for the very model, number type, device and kernels of the run.
"""

from dataclasses import replace

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

    The group is one that ``rollout`` sampled at temperature 1, so that its stored log-probabilities are checked too. It
    should have two or more completions of several tokens, else there is nothing to confuse.
    """
    was_training = policy.model.training
    policy.model.eval()  # dropout would differ
    try:
        with torch.no_grad():
            batch = pack([group], policy.family).to(policy.device)
            plain_S = plain_logprobs(policy, group)
            packed = float((packed_logprobs(policy, batch) - plain_S).abs().mean())
            sampled = float((batch.sampled_logprobs_S - plain_S).abs().mean())
            shared = 0.0
            if group.prompt.image_end:
                pair = [group, _another(group)]
                both_S = torch.cat((plain_S, plain_logprobs(policy, pair[1])))
                batch = pack(pair, policy.family).to(policy.device)
                shared = float((packed_logprobs(policy, batch) - both_S).abs().mean())
    finally:
        policy.model.train(was_training)
    limit = TOLERANCE.get(next(policy.core.parameters()).dtype, 0.1)
    found = (
        (packed, "the packed row differs"),
        (shared, "the packed row of two questions about one image differs"),
        (sampled, "sampling differs"),
    )
    for difference, what in found:
        if not difference <= limit:  # NaN fails too
            raise TrainingError(
                f"{what} from the plain computation by {difference:.2g} a token on average (at most {limit:g}); set "
                f"{'model.attention to sdpa, or ' if policy.kernel else ''}model.packed to false, and please report "
                "the model"
            )
    return max(packed, shared, sampled)


def _another(group: Group) -> Group:
    """Another question about the images of ``group``: without the first token after them."""
    prompt, end = group.prompt, group.prompt.image_end
    positions_AP = prompt.positions_AP
    shorter = replace(
        prompt,
        input_ids_P=torch.cat((prompt.input_ids_P[:end], prompt.input_ids_P[end + 1 :])),
        positions_AP=None if positions_AP is None else positions_AP[:, :-1],
    )
    return replace(group, prompt=shorter)
