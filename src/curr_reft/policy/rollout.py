"""Rollout: G completions of every prompt, sampled together.

Each distinct image passes the vision tower once, what the prompts about it share passes the model once, then the rest
of each prompt, and all completions decode as one flat row. Random numbers are drawn before decoding, one for each
(prompt, completion, token), so what a prompt gets depends on the seed and its place in the list alone, not on how rows
are batched or when others end; with a seed for each completion it does not even depend on the place. The plain path,
one prompt at a time through the model's own cache, draws the same tokens. So a batch that does not fit in memory is
decoded in halves, and gives the same.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch

from curr_reft.console import Advance
from curr_reft.errors import TrainingError
from curr_reft.policy.beginnings import shown_by, together
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.graphs import NotCapturedError
from curr_reft.policy.out_of_memory import in_short, is_out_of_memory, make_room
from curr_reft.policy.policy import Policy
from curr_reft.policy.rows import Rows, Sampled
from curr_reft.policy.sample import Graph, sample, sample_plain
from curr_reft.policy.types import Completion, EncodedPrompt, Group

log = logging.getLogger(__name__)


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
    graph: Graph | None = None,
    advance: Advance = lambda done: None,
) -> list[Group]:
    """One Group for each prompt, in order. ``seed`` is one for all, or one for each (prompt, completion); or prompts
    are some of a list, or of several.

    Of several processes that train one policy, all call this together, those without a prompt too.

    Log-probabilities are those of the whole policy at the temperature (1 if greedy), whatever top_p and top_k cut away.
    ``graph``: what is kept of it for a training forward with the same weights. ``advance`` is called as prompts are
    answered.
    """
    G, T = sampling.group_size, sampling.max_new_tokens
    # Prompts that show one image decode together; each keeps the random numbers of its own place.
    order = together([shown_by(prompt) for prompt in prompts])
    uniform_PGT = _draw_uniform(seed, len(prompts), G, T)[order]
    ordered = [prompts[place] for place in order]
    at_once = max(1, sampling.rows_at_once // G) if policy.packed else 1
    was_training = policy.model.training
    policy.model.eval()
    policy.drop_graphs()
    try:
        groups: list[Group] = []
        with policy.gathered():
            for start in range(0, len(prompts), at_once):
                part = ordered[start : start + at_once]
                rows_PG = _sampled(policy, part, sampling, uniform_PGT[start : start + at_once], graph)
                groups.extend(map(partial(_to_group, policy), part, rows_PG))
                advance(len(part))
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


def _sampled(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    sampling: SamplingConfig,
    uniform_PGT: torch.Tensor,
    graph: Graph | None,
) -> list[list[Sampled]]:
    """The completions of each prompt, decoded together, or one half after the other where that does not fit in memory;
    where a step cannot be captured, once more without graphs.

    Raises TrainingError where a single one does not fit.
    """
    P, G, _ = uniform_PGT.shape
    if policy.rows_that_fit is None or policy.rows_that_fit >= P * G:
        try:
            rows = _decoded(policy, prompts, sampling, uniform_PGT, graph)
            return [rows[p * G : (p + 1) * G] for p in range(P)]
        except (RuntimeError, MemoryError) as error:
            out_of_memory, why = is_out_of_memory(error), in_short(error)
            if not out_of_memory and not isinstance(error, NotCapturedError):
                raise
        make_room(policy)  # here, where the error and what its traceback holds are gone
        if not out_of_memory:
            policy.graphs = None
            log.warning(
                "a decode step could not be captured as a CUDA graph (%s): steps are launched one by one from here on, "
                "as with model.cuda_graphs: off",
                why,
            )
            return _sampled(policy, prompts, sampling, uniform_PGT, graph)
        if P * G == 1:
            raise TrainingError(
                f"out of memory for one completion of a prompt of {prompts[0].length} tokens: {why}. Lower "
                "sampling.max_new_tokens or the pixels of the images (model.max_pixels)"
            )
        policy.rows_that_fit = P * G // 2
        log.warning("out of memory (%s): %d rows are decoded at once from here on", why, policy.rows_that_fit)
    if graph == "prompts":
        graph = None  # a pass over some of the prompts serves no update, and memory is short
    if P > 1:
        cut = [slice(P // 2), slice(P // 2, P)]
        return [row for part in cut for row in _sampled(policy, prompts[part], sampling, uniform_PGT[part], graph)]
    halves = [_sampled(policy, prompts, sampling, part, graph) for part in uniform_PGT.split((G + 1) // 2, 1)]
    return [[row for half in halves for row in half[0]]]


def _decoded(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    sampling: SamplingConfig,
    uniform_PGT: torch.Tensor,
    graph: Graph | None,
) -> list[Sampled]:
    """All completions of all ``prompts``, in order."""
    sampling = sampling.model_copy(update={"group_size": uniform_PGT.shape[1]})
    rows = Rows(policy, sampling, uniform_PGT.flatten(0, 1))
    draw = sample if policy.packed else sample_plain
    with torch.no_grad():
        draw(policy, prompts, sampling, rows, graph)
    return rows.finish()


def _to_group(policy: Policy, prompt: EncodedPrompt, rows: Sequence[Sampled]) -> Group:
    """Outside inference mode, so that training may keep the tensors."""
    completions = tuple(
        Completion(
            tokens_T=row.tokens_T,
            logprobs_T=row.logprobs_T,
            text=policy.processor.decode(row.tokens_T),
            truncated=row.truncated,
        )
        for row in rows
    )
    return Group(prompt=prompt, completions=completions)
