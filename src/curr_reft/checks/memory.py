"""Memory of a run, counted from the sizes of the model and the longest prompt: no weight is read.

What is exact: weights, gradients, float32 copies, AdamW's moments, the reference, keys and values. What is a count of
the largest tensors: activations (``model.Width``). For eight families, full and LoRA, the activations lie between 0.75
and 1.3 of those that backward was handed, and the peak of a whole training step between 0.7 and 1.4 of the measured one
(tests/checks/test_memory_estimate.py, on a CPU). Left out: what an allocator wastes, and other programs.
"""

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from curr_reft.checks.model import ModelFacts, Width
from curr_reft.errors import UsageError
from curr_reft.files import human_size
from curr_reft.policy.answers import CHUNK
from curr_reft.policy.logprobs import LOGITS_AT_ONCE
from curr_reft.recipe import Recipe

CONTEXT = 600_000_000
"""Bytes that a CUDA context and the kernels of its libraries take before any tensor."""

UNITS = {"GB": 10**9, "GIB": 2**30, "MB": 10**6, "MIB": 2**20}


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The most that one prompt of a run takes."""

    tokens: int
    image_tokens: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one process."""

    weights: int
    reference: int  # a second copy for the KL penalty
    masters: int  # float32 copies that the optimizer steps
    moments: int  # AdamW's
    gradients: int
    activations: int  # of the largest micro-batch, its output layer included
    rollout: int  # keys, values and work of a step's rollout
    answers: int  # the same of greedy answers (validation, evaluation)
    context: int

    @property
    def held(self) -> int:
        """Whatever is computed."""
        return self.weights + self.reference + self.masters + self.moments + self.context

    @property
    def peak(self) -> int:
        """Of training. Rollouts and answers are decoded in halves where they do not fit, so they do not count."""
        return self.held + self.gradients + self.activations

    def to_dict(self) -> dict[str, int]:
        return {**asdict(self), "held": self.held, "peak": self.peak}


def estimate(recipe: Recipe, facts: ModelFacts, longest: Prompt, on_gpu: bool) -> Memory:
    """Of training with the largest micro-batch of the recipe; with ``auto`` with the least one, a single group."""
    each = getattr(torch, facts.dtype).itemsize
    objective, lora = recipe.rl.objective, recipe.model.lora is not None
    anchored = objective.beta > 0 and not (lora and objective.reference == "stage")
    trained_each = 4 if lora else each  # peft keeps adapters in float32
    masters = 4 if trained_each < 4 else 0
    return Memory(
        weights=facts.bytes,
        reference=facts.bytes if anchored else 0,
        masters=masters * facts.trained,
        moments=8 * facts.trained,
        # Those of a bfloat16 model become float32 one by one, and its own are dropped on the way.
        gradients=4 * facts.trained,
        activations=activations(recipe, facts, longest, on_gpu),
        rollout=decoding(recipe, facts, longest, recipe.rl.prompts_per_step, recipe.sampling.group_size),
        answers=decoding(recipe, facts, longest, CHUNK, 1),
        context=CONTEXT if on_gpu else 0,
    )


def activations(recipe: Recipe, facts: ModelFacts, longest: Prompt, on_gpu: bool) -> int:
    """Bytes that the forward of the largest micro-batch holds for its backward."""
    G, T = recipe.sampling.group_size, recipe.sampling.max_new_tokens
    group = longest.tokens + G * (T - 1)  # the last token of a completion is never an input
    limit = recipe.rl.micro_batch_tokens
    groups = 1 if limit == "auto" else min(max(1, limit // group), recipe.rl.prompts_per_step)
    if not recipe.model.packed:
        group, groups = G * (longest.tokens + T), 1
    each = getattr(torch, facts.dtype).itemsize
    norm_each = 4 if facts.dtype == "float32" else 8  # the float32 input, and the normed numbers twice in their type
    checkpointed = recipe.model.gradient_checkpointing
    tokens = groups * group
    language, tower = facts.language, facts.tower
    if not (on_gpu or checkpointed or recipe.model.lora):
        language, tower = (replace(width, linear=width.linear - width.gated) for width in (language, tower))
    total = tokens * _kept(language, each, norm_each, checkpointed)
    # Keys and values of the prompt stand once more beside those of every completion.
    copied = groups * G * (longest.tokens + T) * facts.kv * each if recipe.model.packed else 0
    total += copied * (1 if checkpointed else facts.language.layers)
    if facts.sees:
        patches = groups * longest.image_tokens * facts.patches * (1 if recipe.model.packed else G)
        total += patches * _kept(tower, each, norm_each, checkpointed)
    scored = groups * G * T if recipe.model.packed else tokens
    logits = scored * facts.vocabulary
    if recipe.model.packed:
        logits = min(logits, LOGITS_AT_ONCE)
    return round(total + logits * 2 * each)  # with their gradient


def _kept(width: Width, each: int, norm_each: int, checkpointed: bool) -> float:
    """Bytes of one token."""
    whole = width.linear * each + width.norm * norm_each
    if not checkpointed:
        return whole
    return width.layers * width.hidden * each + whole / max(1, width.layers)  # one layer is computed again at a time


def decoding(recipe: Recipe, facts: ModelFacts, longest: Prompt, prompts: int, group_size: int) -> int:
    """Bytes of a rollout: keys and values of prompts and completions, logits, and one layer of the prefill at work."""
    each = getattr(torch, facts.dtype).itemsize
    at_once = min(prompts, max(1, recipe.sampling.rows_at_once // group_size)) if recipe.model.packed else 1
    rows = at_once * group_size
    T, layer = recipe.sampling.max_new_tokens, facts.kv * each
    prefill = at_once * longest.tokens if recipe.model.packed else rows * longest.tokens
    cache = facts.language.layers * layer * (prefill + rows * T)
    patches = at_once * longest.image_tokens * facts.patches
    work = max(prefill * facts.language.widest, patches * facts.tower.widest) * each / 2  # freed as it goes
    return round(cache + work + rows * facts.vocabulary * 4 * 3)  # logits, scaled, and their softmax


def read_size(text: str) -> int:
    """Bytes of ``24GB``, ``24 GiB`` or ``24`` (GB). Raises UsageError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    unit = UNITS.get((match[2] or "GB").upper()) if match else None
    if match is None or unit is None or float(match[1]) <= 0:
        raise UsageError(f"--gpu-memory {text!r}: give a size above 0 as 24GB, 24GiB or 24 (GB)")
    return int(float(match[1]) * unit)


def present_memory() -> tuple[int, str]:
    """Bytes of the device that a run would use, and what it is."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return int(properties.total_memory), f"this machine's {properties.name}"
    table = Path("/proc/meminfo")
    if not table.is_file():
        return 0, "this machine, whose memory is not known"
    line = next(line for line in table.read_text().splitlines() if line.startswith("MemTotal:"))
    return int(line.split()[1]) * 1024, "this machine (no GPU)"


def verdict(recipe: Recipe, memory: Memory, room: int, where: str) -> tuple[str, bool]:
    """Whether training fits, in a sentence with the way out, and whether it is certain that it does not."""
    if not room:
        return f"not compared: {where}", False
    has = f"{human_size(room)} of {where}"
    if memory.held + memory.gradients > room:
        return (
            f"does not fit: weights, optimizer and gradients alone are {human_size(memory.held + memory.gradients)}, "
            f"and there are {has}; {'; '.join(ways_out(recipe))}",
            True,
        )
    if memory.peak > room:
        return (
            f"does not fit by this estimate: {human_size(memory.peak)} of {has}; {'; '.join(ways_out(recipe))}",
            False,
        )
    if memory.peak > 0.85 * room:
        return f"may just fit: {human_size(memory.peak)} of {has}", False
    return f"fits: {human_size(memory.peak)} of {has}", False


def ways_out(recipe: Recipe) -> list[str]:
    """Settings that need less, the ones that cost least first."""
    ways = []
    if recipe.model.dtype == "float32":
        ways.append("set model.dtype: bfloat16")
    if not recipe.model.gradient_checkpointing:
        ways.append("set model.gradient_checkpointing: true")
    if recipe.rl.micro_batch_tokens != "auto":
        ways.append("set rl.micro_batch_tokens: auto")
    if recipe.model.lora is None:
        ways.append("set model.lora: {}")
    elif recipe.model.quantize is None:
        ways.append("set model.quantize: nf4")
    if recipe.rl.objective.beta > 0 and recipe.model.lora is None:
        ways.append("set rl.objective.beta: 0")
    return [*ways, "lower sampling.group_size, sampling.max_new_tokens or model.max_pixels"]


def lines(memory: Memory) -> list[str]:
    """As a table of the parts that are not empty."""
    told: dict[str, Any] = {
        "weights": memory.weights,
        "reference model": memory.reference,
        "float32 copies": memory.masters,
        "AdamW's moments": memory.moments,
        "gradients": memory.gradients,
        "activations of a micro-batch": memory.activations,
        "CUDA": memory.context,
        "peak of training": memory.peak,
        "rollout of a step, on top of what is held": memory.rollout,
        "greedy answers, likewise": memory.answers,
    }
    return [f"    {human_size(count):>9}  {name}" for name, count in told.items() if count]
