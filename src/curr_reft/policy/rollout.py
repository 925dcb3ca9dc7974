"""Rollout: G completions of every prompt, sampled together.

Each distinct image passes the vision tower once, what the prompts about it share passes the model once, then the rest
of each prompt, and all completions decode as one flat row. Random numbers are drawn before decoding, one for each
(prompt, completion, token), so what a prompt gets depends on the seed and its place in the list alone, not on how rows
are batched or when others end; with a seed for each completion it does not even depend on the place. The plain path,
one prompt at a time through the model's own cache, draws the same tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from curr_reft.policy.attention import no_mask
from curr_reft.policy.beginnings import shown_by, together
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.decode import DecodeLayout
from curr_reft.policy.families import image_marks
from curr_reft.policy.lean import find_lean
from curr_reft.policy.logprobs import policy_logits, position_ids, repeat_pixels
from curr_reft.policy.packing import pack_prompts
from curr_reft.policy.patches import patches_as_product
from curr_reft.policy.policy import Policy
from curr_reft.policy.row import prompt_positions
from curr_reft.policy.sampling import choose
from curr_reft.policy.types import Completion, EncodedPrompt, Group
from curr_reft.policy.vision import image_inputs

LEAVE_AT = 1 / 8
"""Ended rows are dropped once they are this share of the batch; dropping a few would cost more than carrying them."""


@dataclass(frozen=True, kw_only=True)
class Among:
    """The prompts are some of ``count``, at ``places`` of that list; they get what ``seed`` would give them there."""

    seed: int
    places: Sequence[int]
    count: int


Seeds: TypeAlias = int | Among | Sequence[Among] | Sequence[Sequence[int]]


def rollout(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    sampling: SamplingConfig,
    seed: Seeds,
    *,
    vision_graph: bool = False,
) -> list[Group]:
    """One Group for each prompt, in order. ``seed`` is one for all, or one for each (prompt, completion); or prompts
    are some of a list, or of several.

    Of several processes that train one policy, all call this together, those without a prompt too.

    Log-probabilities are those of the whole policy at the temperature (1 if greedy), whatever top_p and top_k cut away.
    With ``vision_graph`` the graph of the vision tower is kept for a training forward with the same weights.
    """
    G, T = sampling.group_size, sampling.max_new_tokens
    # Prompts that show one image decode together; each keeps the random numbers of its own place.
    order = together([shown_by(prompt) for prompt in prompts])
    uniform_PGT = _draw_uniform(seed, len(prompts), G, T)[order]
    ordered = [prompts[place] for place in order]
    at_once = max(1, sampling.rows_at_once // G) if policy.packed else 1
    sample = _sample if policy.packed else _sample_plain
    was_training = policy.model.training
    policy.model.eval()
    policy.features.drop_graphs()
    try:
        groups: list[Group] = []
        with policy.gathered():
            for start in range(0, len(prompts), at_once):
                part = ordered[start : start + at_once]
                rows = _Rows(policy, len(part) * G, sampling, uniform_PGT[start : start + at_once].flatten(0, 1))
                with torch.no_grad():
                    sample(policy, part, sampling, rows, vision_graph)
                groups.extend(_to_groups(policy, part, rows, G))
        return [group for _, group in sorted(zip(order, groups, strict=True), key=lambda each: each[0])]
    finally:
        policy.model.train(was_training)


def _draw_uniform(seed: Seeds, P: int, G: int, T: int) -> torch.Tensor:
    """Random numbers in [0, 1), (P, G, T)."""
    if isinstance(seed, int):
        return torch.rand((P, G, T), generator=torch.Generator().manual_seed(seed))
    if isinstance(seed, Among):
        return _draw_uniform(seed.seed, seed.count, G, T)[list(seed.places)]
    if not seed:
        return torch.empty((P, G, T))
    lists: dict[tuple[int, int], torch.Tensor] = {}
    rows: list[torch.Tensor] = []
    for of_prompt in seed:
        if isinstance(of_prompt, Among):
            name = of_prompt.seed, of_prompt.count
            if name not in lists:
                lists[name] = _draw_uniform(of_prompt.seed, of_prompt.count, G, T)
            rows += lists[name][list(of_prompt.places)]
        else:
            rows.append(torch.stack([torch.rand(T, generator=torch.Generator().manual_seed(one)) for one in of_prompt]))
    return torch.stack(rows).view(P, G, T)


@dataclass(init=False)
class _Rows:
    """N rows that are being sampled. Places beyond a row's length hold nothing of meaning."""

    tokens_NT: torch.Tensor  # int64
    logprobs_NT: torch.Tensor  # float32
    lengths: list[int]
    truncated: list[bool]  # true until the row ends

    def __init__(self, policy: Policy, N: int, sampling: SamplingConfig, uniform_NT: torch.Tensor) -> None:
        T, device = sampling.max_new_tokens, policy.device
        self.policy, self.sampling = policy, sampling
        self.uniform_NT = uniform_NT.to(device)
        self.ends = torch.tensor(policy.end_ids, device=device)
        self.tokens_NT = torch.zeros((N, T), dtype=torch.int64, device=device)
        self.logprobs_NT = torch.zeros((N, T), device=device)
        self.lengths, self.truncated = [T] * N, [True] * N
        self.active = list(range(N))  # the row behind each row of the batch
        self.active_A = torch.arange(N, device=device)

    def draw(self, logits_AV: torch.Tensor, step: int) -> torch.Tensor:
        """Samples token ``step`` of the active rows, notes it, and marks rows that end. Returns tokens_A."""
        logits_AV = policy_logits(logits_AV, self.policy.token_bias_V, self.sampling.temperature)
        tokens_A = choose(logits_AV, self.uniform_NT[self.active_A, step], self.sampling)
        self.tokens_NT[self.active_A, step] = tokens_A
        logprobs_A = logits_AV.gather(1, tokens_A[:, None])[:, 0] - logits_AV.logsumexp(-1)
        self.logprobs_NT[self.active_A, step] = logprobs_A
        for row, over in zip(self.active, torch.isin(tokens_A, self.ends).tolist(), strict=True):
            if over and self.truncated[row]:
                self.lengths[row], self.truncated[row] = step + 1, False
        return tokens_A

    def going(self) -> list[int]:
        """Places in the batch of rows that have not ended."""
        return [place for place, row in enumerate(self.active) if self.truncated[row]]

    def keep(self, places: list[int]) -> torch.Tensor:
        """Goes on with these places of the batch; returns them as an index."""
        index = torch.tensor(places, device=self.active_A.device)
        self.active = [self.active[place] for place in places]
        self.active_A = self.active_A[index]
        return index


def _sample(
    policy: Policy, prompts: Sequence[EncodedPrompt], sampling: SamplingConfig, rows: _Rows, vision_graph: bool
) -> None:
    G, T = sampling.group_size, sampling.max_new_tokens
    logits_PV, decoding = _prefill(policy, prompts, sampling, vision_graph)
    first_A = _next_positions(prompts, policy).repeat_interleave(G)
    with torch.inference_mode():
        advance = _Advance(policy, decoding, first_A, T)
        logits_AV = logits_PV.repeat_interleave(G, 0)
        for step in range(T):
            tokens_A = rows.draw(logits_AV, step)
            going = rows.going()
            if not going or step + 1 == T:
                break
            if len(going) <= (1 - LEAVE_AT) * len(rows.active):
                index = rows.keep(going)
                advance.keep(going, index)
                tokens_A = tokens_A[index]
            logits_AV = advance(tokens_A)


def _prefill(
    policy: Policy, prompts: Sequence[EncodedPrompt], sampling: SamplingConfig, vision_graph: bool
) -> tuple[torch.Tensor, DecodeLayout]:
    """The logits after every prompt (P, V), and the layout of the steps that follow, with the prompts' keys in it."""
    device = policy.device
    packed = pack_prompts(prompts, policy.family)
    layout = packed.layout.to(device)
    layout.store = {}
    with image_inputs(policy, packed.images and packed.images.to(device), graph=vision_graph) as inputs:
        logits_PV = policy.model(
            input_ids=packed.input_ids_L[None].to(device),
            position_ids=position_ids(packed.positions_AL.to(device)),
            attention_mask=no_mask(device),
            use_cache=False,
            logits_to_keep=packed.end_N.to(device),
            group_layout=layout,
            **inputs,
        ).logits[0]
    return logits_PV, DecodeLayout(layout.store, layout.prompt_lengths_N, sampling.group_size, sampling.max_new_tokens)


class _Advance:
    """One decode step after the other: the token of each active row -> the logits (A, V) of its next one."""

    def __init__(self, policy: Policy, layout: DecodeLayout, first_A: torch.Tensor, steps: int) -> None:
        self.policy, self.layout = policy, layout
        self.first_A = first_A  # position of the first sampled token of each row
        self.mask = no_mask(policy.device)
        self.lean = find_lean(policy.core)
        if self.lean is not None:
            positions_AT = first_A[:, None] + torch.arange(steps, device=policy.device)
            self.cos_ATD, self.sin_ATD = self.lean.rotations(positions_AT, policy.family.axes)

    def keep(self, places: list[int], index: torch.Tensor) -> None:
        """Goes on with these places of the batch, given twice."""
        self.layout.keep(places)
        self.first_A = self.first_A[index]
        if self.lean is not None:
            self.cos_ATD, self.sin_ATD = self.cos_ATD[index], self.sin_ATD[index]

    def __call__(self, tokens_A: torch.Tensor) -> torch.Tensor:
        step = self.layout.step
        if self.lean is not None:
            rows = self.lean.step(tokens_A, self.layout, self.cos_ATD[:, step], self.sin_ATD[:, step])
            logits_AV = self.policy.core.get_output_embeddings()(rows)
        else:
            logits_AV = self.policy.model(
                input_ids=tokens_A[None],
                position_ids=position_ids((self.first_A + step).expand(self.policy.family.axes, -1)),
                attention_mask=self.mask,
                use_cache=False,
                group_layout=self.layout,
            ).logits[0]
        self.layout.step += 1
        return logits_AV


@torch.inference_mode()
def _sample_plain(
    policy: Policy, prompts: Sequence[EncodedPrompt], sampling: SamplingConfig, rows: _Rows, vision_graph: bool
) -> None:
    """One prompt as G rows through the model's own cache; the definition of what ``_sample`` computes. It computes
    every row for itself, so it keeps no graph."""
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


def _to_groups(policy: Policy, prompts: Sequence[EncodedPrompt], rows: _Rows, G: int) -> list[Group]:
    """Cuts the rows to their lengths. Outside inference mode, so that training may keep the tensors."""
    cut = list(zip(rows.tokens_NT.cpu(), rows.logprobs_NT.cpu(), rows.lengths, rows.truncated, strict=True))
    completions = [
        Completion(
            tokens_T=tokens_T[:length].clone(),
            logprobs_T=logprobs_T[:length].clone(),
            text=policy.processor.decode(tokens_T[:length]),
            truncated=truncated,
        )
        for tokens_T, logprobs_T, length, truncated in cut
    ]
    return [
        Group(prompt=prompt, completions=tuple(completions[p * G : (p + 1) * G])) for p, prompt in enumerate(prompts)
    ]
