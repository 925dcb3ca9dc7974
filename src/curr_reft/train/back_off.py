"""The gradients of a step, in smaller micro-batches where memory runs out.

The loss of a step is a weighted sum over tokens with weights that were fixed before, so that it may be cut anywhere.
The gradients of the half-done step are thrown away and random numbers go back to where they were: what comes of it is
what a run with the smaller budget gets, but for rounding. A budget that the recipe names is a limit, and a smaller one
keeps it, so it is lowered as one that was found is.

Not where weights are sharded: every forward there is one of all processes, and the others have begun the next one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator

from curr_reft import stopping
from curr_reft.errors import TrainingError
from curr_reft.policy.out_of_memory import in_short, is_out_of_memory, make_room
from curr_reft.policy.packing import pack, split_groups
from curr_reft.policy.policy import Policy
from curr_reft.train.objective import MicroBatch, Objective

_PER_TOKEN = ("weights_S", "advantages_S", "old_logprobs_S", "reference_logprobs_S", "completion_S")


def accumulate(
    policy: Policy, objective: Objective, accelerator: Accelerator, micro_batches: Sequence[MicroBatch]
) -> tuple[tuple[MicroBatch, ...], dict[str, float]]:
    """Backward through all micro-batches: (those that fitted, sums over them), with how often memory ran out.

    Raises TrainingError where a single group does not fit.
    """
    batches, failures = tuple(micro_batches), 0
    random = _random_state(policy.device)
    while True:
        try:
            sums = _backward(objective, accelerator, batches)
            return batches, {**sums, "out_of_memory": failures} if failures else sums
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            why = in_short(error)
        # Out of the handler the error is gone, and with its traceback the tensors of the forward that did not fit.
        if policy.sharding is not None:
            raise TrainingError(f"out of memory ({why}); with FSDP2 set a lower micro_batch_tokens")
        failures += 1
        policy.model.zero_grad(set_to_none=True)
        make_room(policy)
        _set_random_state(policy.device, random)
        objective.tokens.lower([batch.packed.groups for batch in batches], why)
        batches = tuple(part for batch in batches for part in cut(batch, objective.tokens.limit, policy))


def _backward(objective: Objective, accelerator: Accelerator, batches: Sequence[MicroBatch]) -> dict[str, float]:
    told: list[dict[str, torch.Tensor]] = []
    for micro_batch in batches:
        stopping.point()
        loss, parts = objective.loss(micro_batch)
        accelerator.backward(loss)
        told.append({"loss": loss.detach(), **parts})
    # Read only now: a GPU whose numbers are read has nothing to do until the next micro-batch is launched.
    sums: dict[str, float] = {"loss": 0.0}
    for parts in told:
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


def cut(batch: MicroBatch, limit: int, policy: Policy) -> list[MicroBatch]:
    """The same tokens with the same weights in micro-batches of at most ``limit`` input tokens."""
    parts = split_groups(batch.packed.groups, limit)
    if len(parts) == 1:
        return [batch]
    cuts, start = [], 0
    for part in parts:
        own = slice(start, start + sum(completion.length for group in part for completion in group.completions))
        start = own.stop
        values = {name: getattr(batch, name) for name in _PER_TOKEN}
        taken: dict[str, Any] = {name: None if value is None else value[own] for name, value in values.items()}
        if taken["completion_S"] is not None:
            taken["completion_S"] = taken["completion_S"] - taken["completion_S"].min()
        cuts.append(replace(batch, packed=pack(part, policy.family).to(policy.device), **taken))
    return cuts


def _random_state(device: torch.device) -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(device: torch.device, states: Sequence[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
