"""The phases of the measurement on a GPU: what each measures, and against which bound.

FLOPs are those of the algorithm (``work.py``): 2 M N K of every product, linear layers and attention, causal triangles
half, the output layer where a token is scored, backward twice the forward. What gradient checkpointing computes again
is not counted, nor, in ``step``, a second pass of the tower (the rollout's may serve the update). MFU = FLOPs / seconds
/ peak; the peak is the data sheet's dense bfloat16 rate, or the measured rate of a product for a device that is not in
the table. ``mfu_gemm`` is the share of the measured rate.

The bound of decoding is memory: a step reads the language model once (the tied output layer is part of it), the keys
and values of each prompt once for its group, and those of every completion so far.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any

import torch

from curr_reft.bench.accelerator import attempt, busiest, device_facts, peak_bytes, reset_peak, seconds_of, synchronize
from curr_reft.bench.exactness import check_exact, check_half
from curr_reft.bench.ours import LR, SubjectObjective, SubjectSampler
from curr_reft.bench.peer_step import trl_step
from curr_reft.bench.plan import Plan, given
from curr_reft.bench.scale import build_random
from curr_reft.bench.shape import Shape
from curr_reft.bench.subject import image_of, text_of
from curr_reft.bench.work import PROMPTS, Options, flops, generation_work, sizes_of, training_work, vision_work
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import group_tokens, pack, split_groups
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import EncodedPrompt, Group
from curr_reft.questions.question import Question
from curr_reft.rewards.config import RewardsConfig
from curr_reft.train.config import ObjectiveConfig, RlConfig
from curr_reft.train.losses import log_ratio, policy_loss
from curr_reft.train.master_weights import MasterWeights

REPEATS = 3
WAYS = {"eager": False, "graphs": True}  # of decoding
PARTS = ("generation", "training", "optimizer")  # of a step


class Measurement:
    """The phases, and the figures so far. The model of 3B is built once and let go of before TRL's."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.facts: dict[str, Any] = {}
        self.sizes = sizes_of(plan.config())

    @cached_property
    def core(self) -> Any:
        return build_random(self.plan.config(), self.plan.device, self.plan.dtype)

    @cached_property
    def prompts(self) -> list[EncodedPrompt]:
        policy, shape = self.plan.policy(self.core), self.plan.shape
        return [
            policy.processor.encode(text_of(shape, number), [image_of(shape, number)])
            for number in range(self.plan.prompts)
        ]

    def release(self) -> None:
        """Lets go of the model."""
        vars(self).pop("core", None)

    def rates(self, work: float, seconds: float) -> dict[str, float]:
        """FLOPs against the clock."""
        rate = work / seconds
        return {
            "seconds": seconds,
            "tflops": work / 1e12,
            "mfu": rate / self.facts["peak_flops"],
            "mfu_gemm": rate / self.facts["gemm_flops"],
        }

    # The phases, in order

    def machine(self) -> dict[str, Any]:
        self.facts = device_facts(self.plan.device, self.plan.dtype)
        return {**self.facts, "versions": _versions(), "python": sys.version.split()[0]}

    def exact(self) -> dict[str, Any]:
        """In float32, two layers of each tower."""
        return check_exact(self.plan)

    def kernels(self) -> dict[str, Any]:
        """The same in bfloat16, each kernel of attention by itself."""
        return check_half(self.plan)

    def prefill(self) -> dict[str, Any]:
        """Tower and prompts, up to the first token of each completion."""
        policy, shape = self.plan.policy(self.core), self.plan.shape
        reset_peak(self.plan.device)
        seconds = self._rollout_seconds(policy, 1)
        one = Shape(P=shape.P, C=1, G=1)
        work = flops(generation_work(self.sizes, one, shared=True)) * self.plan.prompts / PROMPTS
        return {
            "prompts": self.plan.prompts,
            "prompt_tokens_per_second": self.plan.prompts * shape.P / seconds,
            **self.rates(work, seconds),
            "peak_bytes": peak_bytes(self.plan.device),
        }

    def decode(self) -> dict[str, Any]:
        """A rollout less its prefill, over its steps: every step launched anew, and recorded steps replayed."""
        bound = self._decode_bytes() / self.facts["peak_bytes"]
        ways = {name: attempt(partial(self._decode, graphs, bound)) for name, graphs in WAYS.items()}
        return {"rows": self.plan.prompts * self.plan.shape.G, "bound_seconds": bound, **ways}

    def _decode(self, graphs: bool, bound: float) -> dict[str, Any]:
        policy, shape = self.plan.policy(self.core, graphs=graphs), self.plan.shape
        reset_peak(self.plan.device)
        started = time.perf_counter()
        rollout(policy, self.prompts, self.plan.sampling(shape.C), seed=0)
        synchronize(self.plan.device)
        cold = time.perf_counter() - started
        if graphs and policy.graphs is None:
            raise RuntimeError("no step could be captured; a warning says why")
        whole, first = self._rollout_seconds(policy, shape.C), self._rollout_seconds(policy, 1)
        step = (whole - first) / (shape.C - 1)
        return {
            "first_rollout_seconds": cold,  # recording included
            "rollout_seconds": whole,
            "step_seconds": step,
            "over_bound": step / bound,
            "tokens_per_second": self.plan.prompts * shape.G / step,
            "recorded": policy.graphs.captured if policy.graphs else 0,
            "peak_bytes": peak_bytes(self.plan.device),
        }

    def _rollout_seconds(self, policy: Policy, tokens: int) -> float:
        sampling = self.plan.sampling(tokens)
        return seconds_of(lambda: rollout(policy, self.prompts, sampling, seed=0), self.plan.device, REPEATS)

    def _decode_bytes(self) -> float:
        """Read by a step in the middle of the completions."""
        text, shape, width = self.core.get_decoder(), self.plan.shape, self.plan.dtype.itemsize
        weights = sum(parameter.numel() for parameter in text.parameters())
        keys = self.sizes.kv_heads * self.sizes.width // self.sizes.heads  # as many values
        tokens = self.plan.prompts * (shape.P + shape.G * shape.C / 2)
        return width * (weights + 2 * self.sizes.layers * keys * tokens)

    def training(self) -> dict[str, Any]:
        """Forward and backward of two groups, by every way there is; ``naive`` computes each completion for itself."""
        ways: dict[str, dict[str, Any]] = {
            "packed, SDPA": {},
            "packed, SDPA, recomputing": {"recompute": True},
            "packed, varlen flash-attention": {"attention": "flash"},
            "naive, recomputing": {"packed": False, "recompute": True},
        }
        return {name: attempt(partial(self._training, **way)) for name, way in ways.items()}

    def _training(self, **way: Any) -> dict[str, Any]:
        policy, shape = self.plan.policy(self.core, **way), self.plan.shape
        groups = [given(prompt, shape.G, shape.C) for prompt in self.prompts[:PROMPTS]]
        budget = sum(map(group_tokens, groups)) if policy.packed else 1
        reset_peak(self.plan.device)
        try:
            seconds = seconds_of(lambda: backward(policy, groups, budget), self.plan.device, REPEATS)
        finally:  # where memory ran out, the next way begins without what this one left
            self.core.zero_grad(set_to_none=True)
        work = flops(training_work(self.sizes, shape, Options(), shared=policy.packed))
        if policy.packed:  # the count leaves the tower's forward to the rollout
            work += flops(vision_work(self.sizes, PROMPTS, shape.patches))
        return {**self.rates(work, seconds), "peak_bytes": peak_bytes(self.plan.device)}

    def profile(self) -> dict[str, Any]:
        """Where the time of the parts of a step goes, for the figures that are not reached."""
        policy, shape, device = self.plan.policy(self.core, attention="auto"), self.plan.shape, self.plan.device
        groups = [given(prompt, shape.G, shape.C) for prompt in self.prompts[:PROMPTS]]
        few = min(8, shape.C)  # tokens: every step of decoding launches the same
        parts: dict[str, Callable[[], Any]] = {
            "prefill": lambda: rollout(policy, self.prompts, self.plan.sampling(1), seed=0),
            f"rollout of {few} tokens": lambda: rollout(policy, self.prompts, self.plan.sampling(few), seed=0),
            "training": lambda: backward(policy, groups, sum(map(group_tokens, groups))),
        }
        found = {name: attempt(partial(busiest, part, device)) for name, part in parts.items()}
        self.core.zero_grad(set_to_none=True)
        return found

    def step(self) -> dict[str, Any]:
        """The whole step: rollout, reward, forward, backward, AdamW on float32 copies. With two prompts images are new
        in every step, as in TRL's; with more they are known, as they are when encoding runs ahead."""
        found = {}
        for prompts, name in ((PROMPTS, "two prompts, new images"), (self.plan.prompts, "more prompts, known images")):
            found[name] = attempt(partial(self._step, prompts))
        return found

    def _step(self, prompts: int) -> dict[str, Any]:
        policy, shape, device = self.plan.policy(self.core, attention="auto"), self.plan.shape, self.plan.device
        two_groups = PROMPTS * (shape.P + shape.G * (shape.C - 1))
        objective = SubjectObjective(
            policy,
            ManyPrompts(shape=shape, prompts=prompts, new=prompts == PROMPTS),
            RlConfig(prompts_per_step=prompts, micro_batch_tokens=two_groups, objective=ObjectiveConfig(beta=0.0)),
            self.plan.sampling(shape.C),
            RewardsConfig(),
            seed=0,
            budget=1 << 20,
            reference=None,
        )
        weights = MasterWeights(policy.model)
        optimizer = torch.optim.AdamW(weights.held.values(), lr=LR, weight_decay=0.0, fused=True)
        parts: list[dict[str, float]] = []

        def once() -> None:
            clock = [time.perf_counter()]

            def lap() -> None:
                synchronize(device)
                clock.append(time.perf_counter())

            batch = objective.prepare(len(parts) + 1)
            assert sum(len(each.packed.groups) for each in batch.micro_batches) == prompts
            lap()
            policy.model.train()
            for micro_batch in batch.micro_batches:
                objective.loss(micro_batch)[0].backward()
            lap()
            weights.take_gradients()
            torch.nn.utils.clip_grad_norm_(weights.held.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            weights.give_back()
            lap()
            laps = (end - start for start, end in pairwise(clock))
            parts.append(dict(zip(PARTS, laps, strict=True)))

        reset_peak(device)
        seconds = seconds_of(once, device, REPEATS)
        middle = sorted(parts[1:], key=lambda each: sum(each.values()))[REPEATS // 2]
        work = flops(training_work(self.sizes, shape, Options(), shared=True)) * prompts / PROMPTS
        return {
            "prompts": prompts,
            "seconds": seconds,
            "seconds_per_prompt": seconds / prompts,
            "rollouts_per_second": prompts * shape.G / seconds,
            "parts": middle,
            "training_mfu": work / middle["training"] / self.facts["peak_flops"],
            "peak_bytes": peak_bytes(device),
        }

    def trl(self) -> dict[str, Any]:
        """The same step by TRL, on two prompts."""
        self.release()
        return trl_step(self.plan)


@dataclass(frozen=True, kw_only=True)
class ManyPrompts(SubjectSampler):
    """Other prompts every step, or (``new`` false) the same ones."""

    prompts: int
    new: bool

    def draw(self, step: int) -> list[Question]:
        first = self.prompts * (step - 1) if self.new else 0
        return [self._question(first + place) for place in range(self.prompts)]


def backward(policy: Policy, groups: Sequence[Group], token_budget: int) -> None:
    """Forward and backward of the GRPO loss, half of the completions good and half bad."""
    policy.model.train()
    for part in split_groups(groups, token_budget):
        batch = pack(part, policy.family).to(policy.device)
        advantages_S = 1.0 - 2.0 * (batch.completion_S % 2)
        ratio_S = log_ratio(packed_logprobs(policy, batch), None, None, "grpo")
        policy_loss(ratio_S, advantages_S, 0.2, 0.2).mean().backward()


def _versions() -> dict[str, str]:
    """Of the libraries that figures depend on, those that are installed."""
    found = {}
    for name in ("torch", "transformers", "triton", "flash-attn", "trl"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
