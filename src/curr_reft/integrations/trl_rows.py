"""TRL's rows as groups, and back: a row is a left-padded prompt followed by a right-padded completion."""

from collections.abc import Sequence
from itertools import groupby

import torch

from curr_reft.policy.logprobs import packed_scores
from curr_reft.policy.packing import PackedBatch, pack
from curr_reft.policy.policy import Policy
from curr_reft.policy.types import Completion, EncodedPrompt, Group


def groups_of(
    prompts: Sequence[EncodedPrompt], completion_ids_NT: torch.Tensor, completion_mask_NT: torch.Tensor
) -> list[Group]:
    """Neighbouring rows with the very same prompt object become one group.

    A row whose completion is masked out as a whole (TRL's ``mask_truncated_completions``) keeps its first token: a
    group has no empty completions, and the trainer masks the score away.
    """
    lengths_N = completion_mask_NT.sum(1).clamp(min=1).tolist()
    groups = []
    for _, rows in groupby(range(len(prompts)), key=lambda row: id(prompts[row])):
        numbers = list(rows)
        completions = tuple(_completion(completion_ids_NT[row, : lengths_N[row]]) for row in numbers)
        groups.append(Group(prompt=prompts[numbers[0]], completions=completions))
    return groups


def row_scores(
    policy: Policy, groups: Sequence[Group], T: int, temperature: float, *, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """logprobs_NT and, if asked for, entropy_NT (float32, with gradient), 0 after the end of a completion."""
    batch = pack(groups, policy.family)
    scores = packed_scores(policy, batch, temperature, entropy=entropy)
    rows_S = _rows(batch, groups).to(policy.device)
    token_S = batch.token_S.to(policy.device)
    N = sum(len(group.completions) for group in groups)

    def spread(values_S: torch.Tensor) -> torch.Tensor:
        return values_S.new_zeros((N, T)).index_put((rows_S, token_S), values_S)

    return spread(scores.logprobs_S), spread(scores.entropy_S) if entropy else None


def _completion(tokens_T: torch.Tensor) -> Completion:
    tokens_T = tokens_T.cpu()
    return Completion(tokens_T=tokens_T, logprobs_T=torch.zeros(len(tokens_T)), text="", truncated=False)


def _rows(batch: PackedBatch, groups: Sequence[Group]) -> torch.Tensor:
    """The row of each scored token."""
    sizes = torch.tensor([len(group.completions) for group in groups])
    return (sizes.cumsum(0) - sizes)[batch.group_S] + batch.completion_S
