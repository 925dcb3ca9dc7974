"""Whether the fast paths compute the same as the plain ones, on the device that is measured: in float32 to rounding, in
bfloat16 as well as any path does."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch

from curr_reft.bench.accelerator import attempt
from curr_reft.bench.plan import Plan, given
from curr_reft.bench.scale import build_random
from curr_reft.bench.subject import image_of, text_of
from curr_reft.policy.logprobs import packed_logprobs, plain_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import EncodedPrompt, Group

LOGPROBS, GRADIENTS = 2e-5, 1e-4
"""Most that may differ: absolute, and relative over all gradients."""

HALF: dict[str, dict[str, Any]] = {
    "packed, SDPA": {},
    "packed, varlen flash-attention": {"attention": "flash"},
    "plain": {"packed": False},
}
NO_WORSE = 2.0
"""In bfloat16 a packed row is no further from the float32 gradients than this many times the plain rows."""


def check_exact(plan: Plan) -> dict[str, Any]:
    """Two layers of each tower, two images of different size, ragged completions: log-probabilities and gradients of
    the packed row against the plain rows, sampled log-probabilities against the training forward's, greedy decoding
    against transformers' ``generate``, token for token; decoding by recorded steps and by steps launched anew.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    core = build_random(plan.config(layers=2), plan.device, torch.float32)
    policy = plan.policy(core)
    groups = _groups(plan, policy)
    prompts = [group.prompt for group in groups]
    packed_S = packed_logprobs(policy, pack(groups, policy.family))
    packed = _gradients(policy, packed_S)
    plain_S = torch.cat([plain_logprobs(policy, group) for group in groups])
    plain = _gradients(policy, plain_S)

    ways = [plan.policy(core, graphs=graphs) for graphs in (True, False)]
    sampled = [_sampled_difference(plan, each, prompts) for each in ways]
    same = [_is_generate(plan, each, prompt) for each in ways for prompt in prompts]
    found = {
        "logprobs": float((packed_S - plain_S).detach().abs().max()),
        "gradients": _distance(packed, plain),
        "sampled": max(sampled),
        "recorded": bool(ways[0].graphs and ways[0].graphs.captured),
        "greedy_is_generate": all(same),
    }
    ok = max(found["logprobs"], found["sampled"]) <= LOGPROBS and found["gradients"] <= GRADIENTS
    return {**found, "ok": bool(ok and found["recorded"] and found["greedy_is_generate"])}


def check_half(plan: Plan) -> dict[str, Any]:
    """The same model in bfloat16, by every way there is, against the plain rows in float32: mean difference of
    log-probabilities, relative difference of gradients. Kernels that know no float32 are held by this alone."""
    core = build_random(plan.config(layers=2), plan.device, torch.float32)
    with torch.no_grad():  # sharper than fresh weights, so that a wrong key is more than rounding
        for parameter in core.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.2 / parameter[0].numel() ** 0.5)
    exact = plan.policy(core, packed=False)
    groups = _groups(plan, exact)
    exact_S = torch.cat([plain_logprobs(exact, group) for group in groups])
    wanted = _gradients(exact, exact_S)
    half = deepcopy(core)
    for parameter in half.parameters():  # of the model alone: frequencies of rotations stay float32, as when loaded
        parameter.data = parameter.data.to(torch.bfloat16)
        parameter.grad = None

    def measured(**way: Any) -> dict[str, Any]:
        policy = plan.policy(half, **way)
        logprobs_S = packed_logprobs(policy, pack(groups, policy.family))
        return {
            "logprobs": float((logprobs_S - exact_S).detach().abs().mean()),
            "gradients": _distance(_gradients(policy, logprobs_S), wanted),
        }

    found = {name: attempt(partial(measured, **way)) for name, way in HALF.items()}
    plain = found["plain"]
    for name, figures in found.items():
        if name != "plain" and "gradients" in figures and "gradients" in plain:
            worst = max(figures[each] / plain[each] for each in ("logprobs", "gradients"))
            figures["ok"] = worst <= NO_WORSE  # false for NaN too
    return found


def _groups(plan: Plan, policy: Policy) -> list[Group]:
    """Two images of different size, ragged completions."""
    return [
        given(policy.processor.encode(text_of(each, 0), [image_of(each, 0)]), each.G, each.C, ragged=True)
        for each in plan.images
    ]


def _gradients(policy: Policy, logprobs_S: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a weighted sum of the log-probabilities, in float32."""
    policy.core.zero_grad(set_to_none=True)
    (logprobs_S * torch.linspace(-1, 1, len(logprobs_S), device=policy.device)).sum().backward()
    found = {name: each.grad.float() for name, each in policy.core.named_parameters() if each.grad is not None}
    policy.core.zero_grad(set_to_none=True)
    return found


def _distance(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """Relative, over all gradients."""
    assert set(found) == set(wanted)
    return _norm([found[name] - wanted[name] for name in wanted]) / _norm(list(wanted.values()))


def _norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(sum(float(each.square().sum()) for each in tensors)) ** 0.5


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
