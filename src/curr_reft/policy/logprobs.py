"""Log-probabilities of completions: the packed row, and beside it the plain computation that defines it.

The policy is the softmax over the tokens that may be sampled: suppressed ones (image placeholders, padding of the
vocabulary) have probability 0 in the rollout and here alike. The row's implementation of attention stays registered, so
gradient checkpointing may recompute in backward.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from curr_reft.policy.attention import Layout, no_mask
from curr_reft.policy.families import image_marks
from curr_reft.policy.packing import PackedBatch
from curr_reft.policy.patches import patches_as_product
from curr_reft.policy.policy import Policy
from curr_reft.policy.prompt_pass import CompletionsRow, completions_alone
from curr_reft.policy.target_logprobs import target_logprobs
from curr_reft.policy.types import EncodedPrompt, Group
from curr_reft.policy.vision import image_inputs

LOGITS_AT_ONCE = 1 << 24
"""Most logits (scored tokens x vocabulary) that are held at once, 64 MB in float32; beyond it they are recomputed."""


class Scores(NamedTuple):
    """Of the targets of a batch, float32."""

    logprobs_S: torch.Tensor
    entropy_S: torch.Tensor  # of the policy at each scored place, in nats


def packed_logprobs(policy: Policy, batch: PackedBatch, temperature: float = 1.0) -> torch.Tensor:
    """logprobs_S of the batch's targets (float32, with gradient), from one forward pass over the flat row, or over its
    completions where the rollout's pass over the prompts is kept (``prompt_pass.py``).

    Call the model's forward only through this function, once a micro-batch: that is what DDP and FSDP rely on.
    A temperature of 0 (greedy) scores at temperature 1.
    """
    return packed_scores(policy, batch, temperature, entropy=False).logprobs_S


def packed_scores(policy: Policy, batch: PackedBatch, temperature: float = 1.0, entropy: bool = True) -> Scores:
    """``packed_logprobs`` with the entropy of the policy beside them (empty where ``entropy`` is false)."""
    if not policy.packed:
        return _plain_scores(policy, batch, temperature, entropy)
    batch = batch.to(policy.device)
    passed = policy.prompt_passes.take([group.prompt for group in batch.groups])
    if passed is None:
        layout = batch.layout.using(policy.kernel)
        with image_inputs(policy, batch.images) as images:
            return _row_scores(policy, batch, layout, images, temperature, entropy)
    first_S = batch.token_S == 0
    logits_SV = passed.logits_NV.index_select(0, batch.group_S[first_S])
    parts = [_score(logits_SV, batch.targets_S[first_S], policy.token_bias_V, temperature, entropy)]
    row = completions_alone(batch, passed)
    if row is not None:
        with image_inputs(policy, None) as images:
            parts.append(_row_scores(policy, row, row.layout, images, temperature, entropy))
    place_S = torch.cat((first_S.nonzero()[:, 0], (~first_S).nonzero()[:, 0])).argsort()
    joined = [torch.cat(each) for each in zip(*parts, strict=True)]
    return Scores(*(each.index_select(0, place_S) if len(each) else each for each in joined))


def _row_scores(
    policy: Policy,
    row: PackedBatch | CompletionsRow,
    layout: Layout,
    images: Mapping[str, Any],
    temperature: float,
    entropy: bool,
) -> Scores:
    """Of the targets of a row, by one call of the model."""
    head = policy.core.get_output_embeddings()
    chunk = max(1, LOGITS_AT_ONCE // policy.vocabulary_size)
    small = len(row.scored_S) <= chunk
    hidden: list[torch.Tensor] = []

    def take_hidden(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden.append(args[0][0])
        return (args[0][:, :0],)  # the head is applied below, in chunks

    handle = None if small else head.register_forward_pre_hook(take_hidden)
    try:
        output = policy.model(
            input_ids=row.input_ids_L[None],
            position_ids=position_ids(row.positions_AL),
            attention_mask=no_mask(policy.device),
            use_cache=False,
            logits_to_keep=row.scored_S,
            group_layout=layout,
            **images,
        )
    finally:
        if handle is not None:
            handle.remove()

    if small:
        return _score(output.logits.squeeze(0), row.targets_S, policy.token_bias_V, temperature, entropy)

    def score_chunk(hidden_S: torch.Tensor, targets_S: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _score(head(hidden_S), targets_S, policy.token_bias_V, temperature, entropy)

    parts = [
        checkpoint(score_chunk, hidden_S, targets_S, use_reentrant=False)
        for hidden_S, targets_S in zip(hidden[0].split(chunk), row.targets_S.split(chunk), strict=True)
    ]
    return Scores(*(torch.cat(each) for each in zip(*parts, strict=True)))


def position_ids(positions_AL: torch.Tensor) -> torch.Tensor:
    """As the model's forward takes them: (3, 1, L) for M-RoPE, (1, L) otherwise."""
    return positions_AL[:, None] if positions_AL.shape[0] == 3 else positions_AL


def _score(
    logits_SV: torch.Tensor, targets_S: torch.Tensor, bias_V: torch.Tensor, temperature: float, entropy: bool
) -> Scores:
    logprobs_S = target_logprobs(logits_SV, targets_S, bias_V, temperature)
    if not entropy:
        return Scores(logprobs_S, logprobs_S.new_empty(0))
    all_SV = policy_logits(logits_SV, bias_V, temperature).log_softmax(-1)
    return Scores(logprobs_S, -(all_SV.exp() * all_SV).sum(-1))


def policy_logits(logits: torch.Tensor, bias_V: torch.Tensor, temperature: float) -> torch.Tensor:
    """float32 logits whose softmax is the policy: temperature applied (0 means 1), suppressed tokens at the floor."""
    logits = logits.float()
    if temperature not in (0.0, 1.0):
        logits = logits / temperature
    return logits + bias_V


def plain_logprobs(policy: Policy, group: Group, temperature: float = 1.0) -> torch.Tensor:
    """The definition: the G completions as G right-padded rows, each with its own copy of the prompt and its images.

    Returns logprobs_S (float32, with gradient) in the order of the completions and their tokens.
    """
    return _plain_group(policy, group, temperature, entropy=False).logprobs_S


def _plain_group(policy: Policy, group: Group, temperature: float, entropy: bool) -> Scores:
    prompt, device = group.prompt, policy.device
    rows = [torch.cat((prompt.input_ids_P, completion.tokens_T)) for completion in group.completions]
    input_ids_GL = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=policy.pad_id).to(device)
    lengths_G = torch.tensor([len(row) for row in rows], device=device)
    mask_GL = (torch.arange(input_ids_GL.shape[1], device=device) < lengths_G[:, None]).long()
    inputs = repeat_pixels(policy, prompt, len(rows))
    inputs |= image_marks(policy.family, policy.core, input_ids_GL)
    with patches_as_product(policy.patch_embedding):
        logits_GLV = policy.model(input_ids=input_ids_GL, attention_mask=mask_GL, use_cache=False, **inputs).logits
    scored = [logits_GLV[g, prompt.length - 1 : length - 1] for g, length in enumerate(lengths_G.tolist())]
    targets_S = torch.cat([completion.tokens_T for completion in group.completions]).to(device)
    return _score(torch.cat(scored), targets_S, policy.token_bias_V, temperature, entropy)


def repeat_pixels(policy: Policy, prompt: EncodedPrompt, rows: int) -> dict[str, torch.Tensor]:
    """The image inputs of a prompt that stands in ``rows`` rows. (Images or rows, both are the first axis.)"""
    return {name: torch.cat([value] * rows).to(policy.device) for name, value in prompt.pixel_inputs.items()}


def _plain_scores(policy: Policy, batch: PackedBatch, temperature: float, entropy: bool) -> Scores:
    parts = [_plain_group(policy, group, temperature, entropy) for group in batch.groups]
    return Scores(*(torch.cat(each) for each in zip(*parts, strict=True)))
