"""Whether the fast paths compute the same as the plain ones, on the device that is measured, in float32."""

from typing import Any

import torch

from curr_reft.bench.plan import Plan, given
from curr_reft.bench.scale import build_random
from curr_reft.bench.subject import image_of, text_of
from curr_reft.policy.logprobs import packed_logprobs, plain_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import EncodedPrompt

LOGPROBS, GRADIENTS = 2e-5, 1e-4
"""Most that may differ: absolute, and relative over all gradients."""


def check_exact(plan: Plan) -> dict[str, Any]:
    """Two layers of each tower, two images of different size, ragged completions: log-probabilities and gradients of
    the packed row against the plain rows, sampled log-probabilities against the training forward's, greedy decoding
    against transformers' ``generate``, token for token; decoding by recorded steps and by steps launched anew.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    core = build_random(plan.config(layers=2), plan.device, torch.float32)
    policy = plan.policy(core)
    prompts = [policy.processor.encode(text_of(each, 0), [image_of(each, 0)]) for each in plan.images]
    groups = [given(prompt, each.G, each.C, ragged=True) for prompt, each in zip(prompts, plan.images, strict=True)]
    batch = pack(groups, policy.family).to(policy.device)
    weights_S = torch.linspace(-1, 1, len(batch.targets_S), device=policy.device)

    def gradients(logprobs_S: torch.Tensor) -> dict[str, torch.Tensor]:
        core.zero_grad(set_to_none=True)
        (logprobs_S * weights_S).sum().backward()
        return {name: each.grad.clone() for name, each in core.named_parameters() if each.grad is not None}

    packed_S = packed_logprobs(policy, batch)
    packed = gradients(packed_S)
    plain_S = torch.cat([plain_logprobs(policy, group) for group in groups])
    plain = gradients(plain_S)
    assert set(packed) == set(plain)
    difference = sum(float((packed[name] - plain[name]).square().sum()) for name in plain) ** 0.5
    norm = sum(float(each.square().sum()) for each in plain.values()) ** 0.5

    ways = [plan.policy(core, graphs=graphs) for graphs in (True, False)]
    sampled = [_sampled_difference(plan, each, prompts) for each in ways]
    same = [_is_generate(plan, each, prompt) for each in ways for prompt in prompts]
    found = {
        "logprobs": float((packed_S - plain_S).detach().abs().max()),
        "gradients": difference / norm,
        "sampled": max(sampled),
        "recorded": bool(ways[0].graphs and ways[0].graphs.captured),
        "greedy_is_generate": all(same),
    }
    ok = max(found["logprobs"], found["sampled"]) <= LOGPROBS and found["gradients"] <= GRADIENTS
    return {**found, "ok": bool(ok and found["greedy_is_generate"])}


def _sampled_difference(plan: Plan, policy: Policy, prompts: list[EncodedPrompt]) -> float:
    """Largest difference of a sampled log-probability to the training forward's."""
    sampled = pack(rollout(policy, prompts, plan.sampling(plan.generated), seed=0), policy.family)
    with torch.no_grad():
        scored_S = packed_logprobs(policy, sampled).cpu()
    return float((scored_S - sampled.sampled_logprobs_S).abs().max())


def _is_generate(plan: Plan, policy: Policy, prompt: EncodedPrompt) -> bool:
    """One prompt, greedy."""
    tokens = plan.generated
    (group,) = rollout(policy, [prompt], plan.sampling(tokens, temperature=0.0, group_size=1), seed=0)
    ids = prompt.input_ids_P[None].to(policy.device)
    with torch.no_grad():
        out = policy.core.eval().generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == policy.core.config.image_token_id).int(),
            do_sample=False,
            max_new_tokens=tokens,
            suppress_tokens=policy.suppressed_ids,
            pad_token_id=policy.pad_id,
            **{name: value.to(policy.device) for name, value in prompt.pixel_inputs.items()},
        )
    return group.completions[0].tokens_T.tolist() == out[0, prompt.length :].tolist()
