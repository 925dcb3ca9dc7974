"""Rollout: G completions of every prompt, sampled together.

Each distinct image passes the vision tower once, each prompt the model once, and all completions decode as one flat row.
Random numbers are drawn before decoding, one for each (prompt, completion, token), so what a prompt gets depends on
the seed and its place in the list alone, not on how rows are batched or when others end.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from curr_reft.errors import UsageError
from curr_reft.policy.attention import no_mask
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.decode import DecodeLayout
from curr_reft.policy.load import Policy
from curr_reft.policy.logprobs import policy_logits, position_ids
from curr_reft.policy.packing import pack_images, pack_prompts
from curr_reft.policy.types import Completion, EncodedPrompt, Group
from curr_reft.policy.vision import shared_images

LEAVE_AT = 1 / 8
"""Ended rows are dropped once they are this share of the batch; dropping a few would cost more than carrying them."""


def rollout(policy: Policy, prompts: Sequence[EncodedPrompt], sampling: SamplingConfig, seed: int) -> list[Group]:
    """One Group for each prompt, in order.

    Log-probabilities are those of the whole policy at the temperature (1 if greedy), whatever top_p and top_k cut away.
    """
    if not policy.packed:
        raise UsageError("model.packed: sampling on the plain path is not there yet; set model.packed to true")
    G, T = sampling.group_size, sampling.max_new_tokens
    generator = torch.Generator().manual_seed(seed)
    uniform_PGT = torch.rand((len(prompts), G, T), generator=generator)
    at_once = max(1, sampling.rows_at_once // G)
    was_training = policy.model.training
    policy.model.eval()
    try:
        groups: list[Group] = []
        for start in range(0, len(prompts), at_once):
            part = prompts[start : start + at_once]
            with torch.inference_mode():
                sampled = _sample(policy, part, sampling, uniform_PGT[start : start + at_once].flatten(0, 1))
            groups.extend(_to_groups(policy, part, sampled, G))
        return groups
    finally:
        policy.model.train(was_training)


@dataclass(frozen=True)
class _Sampled:
    tokens_NT: torch.Tensor  # int64, on the CPU; beyond a row's length without meaning
    logprobs_NT: torch.Tensor  # float32
    lengths: list[int]
    truncated: list[bool]


def _sample(
    policy: Policy, prompts: Sequence[EncodedPrompt], sampling: SamplingConfig, uniform_NT: torch.Tensor
) -> _Sampled:
    G, T, device = sampling.group_size, sampling.max_new_tokens, policy.device
    uniform_NT = uniform_NT.to(device)
    input_ids_L, positions_AL, layout, end_P = (each.to(device) for each in pack_prompts(prompts, policy.family))
    layout.store = {}
    images = pack_images(prompts, policy.family)
    with shared_images(policy.core, policy.family, images and images.to(device)) as image_inputs:
        logits_PV = policy.model(
            input_ids=input_ids_L[None],
            position_ids=position_ids(positions_AL),
            attention_mask=no_mask(device),
            use_cache=False,
            logits_to_keep=end_P,
            group_layout=layout,
            **image_inputs,
        ).logits[0]

    N = len(prompts) * G
    decoding = DecodeLayout(layout.store, layout.prompt_lengths_N, G, T)
    tokens_NT = torch.zeros((N, T), dtype=torch.int64, device=device)
    logprobs_NT = torch.zeros((N, T), device=device)
    lengths, truncated = [T] * N, [True] * N
    ends = torch.tensor(policy.end_ids, device=device)
    active = list(range(N))  # the row of the result behind each row of the batch
    active_A = torch.arange(N, device=device)
    logits_AV = logits_PV.repeat_interleave(G, 0)
    # Text after the prompt goes on from its largest position, on every axis.
    first_P = (
        torch.stack([positions.max() for positions in positions_AL.split(layout.prompt_lengths_N.tolist(), 1)]) + 1
    )
    first_A = first_P.repeat_interleave(G)
    mask = no_mask(device)

    for step in range(T):
        logits_AV = policy_logits(logits_AV, policy.token_bias_V, sampling.temperature)
        tokens_A = choose(logits_AV, uniform_NT[active_A, step], sampling)
        tokens_NT[active_A, step] = tokens_A
        logprobs_NT[active_A, step] = logits_AV.gather(1, tokens_A[:, None])[:, 0] - logits_AV.logsumexp(-1)
        ended = torch.isin(tokens_A, ends).tolist()
        for row, over in zip(active, ended, strict=True):
            if over and truncated[row]:
                lengths[row], truncated[row] = step + 1, False
        going = [i for i, row in enumerate(active) if truncated[row]]
        if not going or step + 1 == T:
            break
        if len(going) <= (1 - LEAVE_AT) * len(active):
            decoding.keep(going)
            kept = torch.tensor(going, device=device)
            active = [active[i] for i in going]
            active_A, first_A, tokens_A = active_A[kept], first_A[kept], tokens_A[kept]
        output = policy.model(
            input_ids=tokens_A[None],
            position_ids=position_ids((first_A + step).expand(policy.family.axes, -1)),
            attention_mask=mask,
            use_cache=False,
            group_layout=decoding,
        )
        decoding.step += 1
        logits_AV = output.logits[0]
    return _Sampled(tokens_NT.cpu(), logprobs_NT.cpu(), lengths, truncated)


def choose(logits_AV: torch.Tensor, uniform_A: torch.Tensor, sampling: SamplingConfig) -> torch.Tensor:
    """One token a row. ``logits_AV`` float32 with the temperature applied; ``uniform_A`` in [0, 1)."""
    if sampling.temperature == 0:
        return logits_AV.argmax(-1)
    probabilities_AV = cut(logits_AV, sampling.top_p, sampling.top_k).softmax(-1)
    cumulative_AV = probabilities_AV.cumsum(-1)
    total_A = cumulative_AV[:, -1]
    # Below the total even after rounding, so the chosen token is one whose probability is above 0.
    point_A = torch.minimum(uniform_A * total_A, torch.nextafter(total_A, torch.zeros_like(total_A)))
    return torch.searchsorted(cumulative_AV, point_A[:, None], right=True)[:, 0]


def cut(logits_AV: torch.Tensor, top_p: float, top_k: int) -> torch.Tensor:
    """-inf outside the ``top_k`` most likely tokens (0: all) and outside the smallest set that reaches ``top_p``."""
    if 0 < top_k < logits_AV.shape[1]:
        least_A = logits_AV.topk(top_k, dim=-1).values[:, -1:]
        logits_AV = logits_AV.masked_fill(logits_AV < least_A, -torch.inf)
    if top_p < 1:
        ordered_AV, order_AV = logits_AV.sort(descending=True, dim=-1)
        before_AV = ordered_AV.softmax(-1).cumsum(-1) - ordered_AV.softmax(-1)
        outside_AV = torch.zeros_like(before_AV, dtype=torch.bool).scatter(1, order_AV, before_AV >= top_p)
        logits_AV = logits_AV.masked_fill(outside_AV, -torch.inf)
    return logits_AV


def _to_groups(policy: Policy, prompts: Sequence[EncodedPrompt], sampled: _Sampled, G: int) -> list[Group]:
    """Cuts the rows to their lengths. Outside inference mode, so that training may keep the tensors."""
    tokens = [row[:length].clone() for row, length in zip(sampled.tokens_NT, sampled.lengths, strict=True)]
    logprobs = [row[:length].clone() for row, length in zip(sampled.logprobs_NT, sampled.lengths, strict=True)]
    completions = [
        Completion(
            tokens_T=tokens[n], logprobs_T=logprobs[n], text=policy.processor.decode(tokens[n]), truncated=truncated
        )
        for n, truncated in enumerate(sampled.truncated)
    ]
    return [
        Group(prompt=prompt, completions=tuple(completions[p * G : (p + 1) * G])) for p, prompt in enumerate(prompts)
    ]
