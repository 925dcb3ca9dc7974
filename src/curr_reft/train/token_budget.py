"""Micro-batches by a budget of tokens: the one the recipe names, or, with ``auto``, the largest that fits in memory.

What backward will need of a forward is counted once, on the largest group of the first step, tensor by tensor; the
budget is what the free memory has room for. Where memory runs out all the same, it is halved (``back_off.py``). The
loss of a step does not depend on how it is cut, but for rounding; so that a resumed run cuts as the run before it did,
the number found is part of the state.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from curr_reft import processes
from curr_reft.errors import TrainingError, UsageError
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.out_of_memory import in_short, is_out_of_memory
from curr_reft.policy.packing import group_tokens, pack, row_tokens, split_groups
from curr_reft.policy.policy import Policy
from curr_reft.policy.types import Group

USED = 0.8
"""Share of the free memory that a micro-batch may take: others live on the machine, and allocators waste some."""

MORE = 1.25
"""The most that a micro-batch holds, in terms of what backward needs of its forward (measured on a CPU: 1.0)."""

LEAST, MOST = 64, 1 << 20

log = logging.getLogger(__name__)


class TokenBudget:
    """Cuts groups into micro-batches. ``tokens`` is None until it is found."""

    def __init__(self, setting: int | Literal["auto"], free_bytes: Callable[[torch.device], int] | None = None) -> None:
        self.tokens = None if setting == "auto" else setting
        self._found = setting == "auto"  # or lowered since: not what the recipe says
        self._free_bytes = free_bytes or free_memory

    def split(self, policy: Policy, groups: Sequence[Group]) -> list[list[Group]]:
        """Micro-batches in order; finds the budget first where that is still to be done. Processes take the least of
        theirs, so that one of them can save it for all. Raises UsageError where it cannot be found."""
        if self.tokens is None:
            own = self._find(policy, max(groups, key=group_tokens)) if groups else None
            found = [tokens for tokens in processes.gather(own) if tokens is not None]
            if not found:
                return []
            self.tokens = min(found)
        return split_groups(groups, self.tokens)

    @property
    def limit(self) -> int:
        """Tokens of a micro-batch, once they are known."""
        assert self.tokens is not None, "groups have been split"
        return self.tokens

    def lower(self, rows: Sequence[Sequence[Group]], why: str) -> None:
        """Memory ran out for one of ``rows``: half of what their largest has, from here on.

        Raises TrainingError where all are of one group, which cannot be cut.
        """
        largest = max(rows, key=row_tokens)
        if all(len(row) == 1 for row in rows):
            raise TrainingError(_too_large(largest[0], why, self.limit))
        self.tokens, before = max(1, min(self.limit, row_tokens(largest)) // 2), self.limit
        self._found = True
        log.warning("out of memory (%s): micro_batch_tokens is lowered from %d to %d", why, before, self.tokens)

    def agree(self) -> int:
        """The least of all processes, in all of them: one saves it for all."""
        self.tokens, before = min(processes.gather(self.limit)), self.limit
        self._found = self._found or self.tokens < before
        return self.tokens

    def _find(self, policy: Policy, group: Group) -> int:
        if policy.sharding is not None:
            raise UsageError(
                "micro_batch_tokens: 'auto' tries a forward in one process, and with FSDP2 every forward is one of all "
                "processes; set it to a number of tokens"
            )
        trained = policy.training_parameters()
        # Gradients and AdamW's two moments come with the first update.
        to_come = sum(parameter.numel() * (parameter.element_size() + 8) for parameter in trained)
        room = USED * (self._free_bytes(policy.device) - to_come)
        try:
            needed = backward_bytes(policy, group)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(_too_large(group, in_short(error), None)) from error
        each = MORE * needed / group_tokens(group)
        return min(MOST, max(LEAST, math.floor(room / each)))

    def state_dict(self) -> dict[str, Any]:
        """What was found or lowered; empty where it is what the recipe says."""
        return {"micro_batch_tokens": self.tokens} if self._found else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if "micro_batch_tokens" in state:
            self.tokens, self._found = state["micro_batch_tokens"], True


def _too_large(group: Group, why: str, limit: int | None) -> str:
    longest = max(completion.length for completion in group.completions)
    budget = "" if limit is None else f" (micro_batch_tokens is {limit})"
    return (
        f"out of memory for a single group of {group_tokens(group)} tokens, a prompt of {group.prompt.length} and "
        f"{len(group.completions)} completions of up to {longest}{budget}: {why}. Lower sampling.group_size or "
        "sampling.max_new_tokens, or the pixels of the images (model.max_pixels), or set "
        "model.gradient_checkpointing: true"
    )


def backward_bytes(policy: Policy, group: Group) -> int:
    """Bytes that a forward of ``group`` holds for its backward, parameters not counted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in policy.model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    was_training = policy.model.training
    policy.model.train()
    try:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            logprobs_S = packed_logprobs(policy, pack([group], policy.family))
    finally:
        policy.model.train(was_training)
    del logprobs_S  # only now: what is freed could be counted twice, under one address
    return sum(kept.values()) + _checkpointed_bytes(policy, group)


def _checkpointed_bytes(policy: Policy, group: Group) -> int:
    """With gradient checkpointing: the inputs of the language model's layers, and one layer at work.

    Checkpointing keeps its inputs itself, and what a layer holds while backward computes it again comes on top.
    """
    if not policy.core.is_gradient_checkpointing:
        return 0
    text = policy.core.config.get_text_config()
    widths = text.num_hidden_layers * text.hidden_size + 8 * text.intermediate_size
    return group_tokens(group) * widths * next(policy.core.parameters()).element_size()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated. Raises TrainingError where nothing tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    table = Path("/proc/meminfo")
    if not table.is_file():
        raise TrainingError(
            "rl.micro_batch_tokens: 'auto' reads the free memory from the GPU or from /proc/meminfo, and there is "
            "neither here; set it to a number of tokens"
        )
    line = next(line for line in table.read_text().splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024
