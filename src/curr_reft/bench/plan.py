"""What the measurement on a GPU measures, at real and at toy size, and the policies and groups it needs."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from curr_reft.bench.scale import real_config, small_config
from curr_reft.bench.shape import Shape
from curr_reft.bench.subject import build_processor, suppressed_ids
from curr_reft.policy.config import ModelConfig, SamplingConfig
from curr_reft.policy.graphs import StepGraphs
from curr_reft.policy.policy import Policy, wrap_model
from curr_reft.policy.types import Completion, EncodedPrompt, Group


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, at real or toy size."""

    small: bool
    device: torch.device
    shape: Shape
    prompts: int  # of the larger step, of prefill and of decoding
    images: tuple[Shape, Shape]  # of the exactness check: two images of different size, ragged completions
    generated: int  # tokens compared with generate
    dtype: torch.dtype = torch.bfloat16

    def config(self, layers: int | None = None) -> Any:
        """The model's configuration (``layers``: cut to so many of each tower)."""
        build = small_config if self.small else real_config
        return build() if layers is None else build(layers, layers)

    def policy(
        self,
        core: Any,
        *,
        packed: bool = True,
        attention: str = "sdpa",
        recompute: bool = False,
        graphs: bool = True,
    ) -> Policy:
        """A policy around ``core`` whose completions never end. Raises UsageError where attention is not to be had.

        ``graphs``: decode steps are recorded and replayed, on a CPU too, where that shows nothing but that it runs.
        """
        core.gradient_checkpointing_disable()
        config = ModelConfig.model_validate(
            {
                "device": str(self.device),
                "packed": packed,
                "attention": attention,
                "gradient_checkpointing": recompute,
            }
        )
        policy = wrap_model(core, build_processor(core.config.get_text_config().vocab_size), config)
        policy.token_bias_V[suppressed_ids()] = torch.finfo(torch.float32).min
        return replace(policy, graphs=StepGraphs(self.device) if graphs else None)

    def sampling(self, tokens: int, **changes: Any) -> SamplingConfig:
        """Exactly ``tokens`` tokens, all completions of a rollout together."""
        fields = {"group_size": self.shape.G, "max_new_tokens": tokens, "rows_at_once": 1 << 16}
        return SamplingConfig.model_validate({**fields, **changes})


def real_plan(device: torch.device) -> Plan:
    """On a GPU."""
    return Plan(
        small=False,
        device=device,
        shape=Shape(P=1050, C=64, G=8),
        prompts=12,
        images=(Shape(P=90, C=24, G=3), Shape(P=50, C=24, G=3)),
        generated=24,
    )


def small_plan() -> Plan:
    """On the CPU, in seconds."""
    return Plan(
        small=True,
        device=torch.device("cpu"),
        shape=Shape(P=50, C=4, G=3),  # of two completions both may earn the same, and the group would be left out
        prompts=3,
        images=(Shape(P=90, C=5, G=3), Shape(P=50, C=5, G=3)),
        generated=4,
    )


def given(prompt: EncodedPrompt, G: int, C: int, *, ragged: bool = False) -> Group:
    """A group of random completions of C tokens (``ragged``: of 2 to C)."""
    drawn = torch.Generator().manual_seed(C)
    lengths = [max(2, C - 3 * place) if ragged else C for place in range(G)]
    tokens = [torch.randint(100, 2000, (length,), generator=drawn) for length in lengths]
    return Group(
        prompt=prompt,
        completions=tuple(
            Completion(tokens_T=each, logprobs_T=torch.zeros(len(each)), text="", truncated=True) for each in tokens
        ),
    )
