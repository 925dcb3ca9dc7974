"""The loop that samples: prefill once a prompt, then a token of every row at a time.

``sample`` shares prompts between completions, ``sample_plain`` computes every completion for itself and is the
definition of what the other computes. Both fill in the rows they are given.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch

from curr_reft.policy.advance import Advance, Prefilled
from curr_reft.policy.attention import no_mask
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.families import image_marks
from curr_reft.policy.logprobs import position_ids, repeat_pixels
from curr_reft.policy.packing import pack_prompts
from curr_reft.policy.patches import patches_as_product
from curr_reft.policy.policy import Policy
from curr_reft.policy.prompt_pass import PromptPass
from curr_reft.policy.replayed import find_replayed
from curr_reft.policy.row import prompt_positions
from curr_reft.policy.rows import Rows
from curr_reft.policy.types import EncodedPrompt
from curr_reft.policy.vision import image_inputs

Graph: TypeAlias = Literal["vision", "prompts"]
"""What a rollout keeps with its graph: the vision tower's pass, or all of the pass over the prompts."""


def sample(
    policy: Policy, prompts: Sequence[EncodedPrompt], sampling: SamplingConfig, rows: Rows, graph: Graph | None
) -> None:
    """All completions of all ``prompts`` as one batch."""
    G, T = sampling.group_size, sampling.max_new_tokens
    logits_PV, prefilled = _prefill(policy, prompts, graph)
    with torch.inference_mode():
        advance = find_replayed(policy, prefilled, G, T) or Advance(policy, prefilled, G, T)
        del prefilled  # replayed steps copy it
        logits_AV = logits_PV.repeat_interleave(G, 0)
        for step in range(T):
            tokens_A = rows.draw(logits_AV, step)
            going = rows.going()
            if not going or step + 1 == T:
                break
            move = advance.move(going)
            if move is not None:
                index_A = rows.keep(move)
                advance.keep(move, index_A)
                tokens_A = tokens_A[index_A]
            logits_AV = advance(tokens_A)


def _prefill(policy: Policy, prompts: Sequence[EncodedPrompt], graph: Graph | None) -> tuple[torch.Tensor, Prefilled]:
    """The logits after every prompt (P, V), and what decoding needs of the prompts."""
    device = policy.device
    packed = pack_prompts(prompts, policy.family)
    layout = packed.layout.to(device)
    layout.store = {}
    images = packed.images and packed.images.to(device)
    with (
        torch.set_grad_enabled(graph == "prompts"),
        image_inputs(policy, images, graph=graph == "vision") as inputs,
    ):
        logits_PV = policy.model(
            input_ids=packed.input_ids_L[None].to(device),
            position_ids=position_ids(packed.positions_AL.to(device)),
            attention_mask=no_mask(device),
            use_cache=False,
            logits_to_keep=packed.end_N.to(device),
            group_layout=layout,
            **inputs,
        ).logits[0]
    keys = layout.store
    if graph == "prompts":
        policy.prompt_passes.keep(PromptPass(prompts=tuple(prompts), keys=keys, logits_NV=logits_PV))
        keys = {layer: (k.detach(), v.detach()) for layer, (k, v) in keys.items()}
        logits_PV = logits_PV.detach()
    first_N = _next_positions(prompts, policy)
    return logits_PV, Prefilled(keys=keys, lengths_N=layout.prompt_lengths_N, first_N=first_N)


@torch.inference_mode()
def sample_plain(
    policy: Policy, prompts: Sequence[EncodedPrompt], sampling: SamplingConfig, rows: Rows, graph: Graph | None
) -> None:
    """One prompt as G rows through the model's own cache. It computes every row for itself, so it keeps no graph."""
    (prompt,), G = prompts, sampling.group_size
    first = _next_positions(prompts, policy)
    positions_AP = prompt_positions(prompt, policy.family).to(policy.device)
    input_ids_GP = prompt.input_ids_P.to(policy.device).expand(G, -1)
    with patches_as_product(policy.patch_embedding):
        output = policy.model(
            input_ids=input_ids_GP,
            position_ids=position_ids(positions_AP).expand(*[-1] * (policy.family.axes > 1), G, -1),
            use_cache=True,
            **repeat_pixels(policy, prompt, G),
            **image_marks(policy.family, policy.core, input_ids_GP),
        )
    for step in range(sampling.max_new_tokens):
        tokens_G = rows.draw(output.logits[:, -1], step)
        if not rows.going() or step + 1 == sampling.max_new_tokens:
            return
        place = (first + step).expand(policy.family.axes, 1)
        output = policy.model(
            input_ids=tokens_G[:, None],
            position_ids=position_ids(place).expand(*[-1] * (policy.family.axes > 1), G, -1),
            past_key_values=output.past_key_values,
            use_cache=True,
        )


def _next_positions(prompts: Sequence[EncodedPrompt], policy: Policy) -> torch.Tensor:
    """The rotary position of the first token after each prompt, the same on every axis."""
    largest = [prompt_positions(prompt, policy.family).max() for prompt in prompts]
    return (torch.stack(largest) + 1).to(policy.device)
