"""What is saved where a step asks several questions about one image: rollout and training, with 1, 2, 4, ... of them.

    python benchmarks/one_image.py [--shape 309,32,8] [--prompts 4] [--questions 1 2 4] [--repeats 5] [--json FILE]

The model and the prompts of ``curr-reft bench``; the same number of prompts, groups and tokens to sample each time, and
fewer images. Images are processed before. One step each in turn, medians of processor time on one thread. Rollout and
training do as a step on-policy does: training goes on from the rollout's pass of the vision tower. ``--share off``
computes every prompt whole, as if its questions had nothing in common but the vision tower's pass.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from curr_reft.bench.ours import build_policy
from curr_reft.bench.shape import Shape, parse_shape
from curr_reft.bench.subject import build_model, image_of, text_of
from curr_reft.bench.work import Options
from curr_reft.policy.config import SamplingConfig
from curr_reft.policy.logprobs import packed_logprobs
from curr_reft.policy.packing import pack
from curr_reft.policy.policy import Policy
from curr_reft.policy.rollout import rollout
from curr_reft.policy.types import EncodedPrompt


def ask(policy: Policy, shape: Shape, prompts: int, questions: int, share: bool) -> list[EncodedPrompt]:
    """``prompts`` prompts, ``questions`` of them about each image."""
    asked: list[EncodedPrompt] = []
    for number in range(prompts):
        encoded = policy.processor.encode(text_of(shape, number), [image_of(shape, number // questions)])
        first = asked[number - number % questions] if number % questions else encoded
        end = encoded.image_end if share else 0
        asked.append(replace(encoded, pixel_inputs=first.pixel_inputs, image_end=end))
    return asked


def measure(policy: Policy, prompts: Sequence[EncodedPrompt], sampling: SamplingConfig, seed: int) -> dict[str, float]:
    """Processor seconds of one rollout and one forward and backward over all its groups; tokens of the training row."""
    policy.model.zero_grad()
    begun = time.process_time()
    groups = rollout(policy, prompts, sampling, seed=seed, graph="vision")
    rolled = time.process_time()
    batch = pack(groups, policy.family)
    logprobs_S = packed_logprobs(policy, batch)
    logprobs_S.backward(torch.linspace(-1, 1, len(logprobs_S)) / len(logprobs_S))
    done = time.process_time()
    return {"rollout": rolled - begun, "training": done - rolled, "tokens": batch.length}


def main() -> None:
    parser = argparse.ArgumentParser(description="Several questions about one image: what a step saves.")
    parser.add_argument("--shape", type=parse_shape, default=Shape(P=309, C=32, G=8))
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--share", choices=("on", "off"), default="on")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()

    torch.set_num_threads(1)
    policy, shape = build_policy(build_model(), Options()), chosen.shape
    policy.model.train()
    sampling = SamplingConfig(group_size=shape.G, max_new_tokens=shape.C)
    asked = {k: ask(policy, shape, chosen.prompts, k, chosen.share == "on") for k in chosen.questions}
    runs: dict[int, list[dict[str, float]]] = {k: [] for k in asked}
    for repeat in range(chosen.repeats + 1):
        for k, prompts in asked.items():
            found = measure(policy, prompts, sampling, repeat)
            if repeat:  # the first one warms up
                runs[k].append(found)

    rows = []
    for k, steps in runs.items():
        medians = {name: statistics.median(step[name] for step in steps) for name in steps[0]}
        rows.append({"questions": k, **medians, "step": medians["rollout"] + medians["training"]})
    print(
        f"{chosen.prompts} prompts of {shape}, sharing {chosen.share}, {platform.machine()}, torch {torch.__version__}"
    )
    print("| questions an image | rollout | training | both | against the first | tokens of the row |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        ratio = rows[0]["step"] / row["step"]
        print(
            f"| {row['questions']} | {row['rollout']:.2f} s | {row['training']:.2f} s | {row['step']:.2f} s "
            f"| {ratio:.2f}x | {row['tokens']:,.0f} |"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps({"shape": str(shape), "prompts": chosen.prompts, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
