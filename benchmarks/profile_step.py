"""Where the time of a GRPO step at the demo's size goes: medians over steps, for each form of question.

    python benchmarks/profile_step.py [--steps 15] [--threads 1] [--plain] [--json FILE]

The parts are timed one by one; a step of a run does the same and nothing else but logging.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from curr_reft.curriculum.sampler import QuestionSampler
from curr_reft.policy.load import load_policy
from curr_reft.policy.rollout import rollout
from curr_reft.prepare import load_items, prepare
from curr_reft.recipe import load_recipe
from curr_reft.rewards.custom import Logged
from curr_reft.seeding import derive_seed
from curr_reft.train.grpo import GrpoObjective
from curr_reft.train.one_pass import kept_graph

PARTS = ("encode", "rollout", "grade", "pack", "forward", "backward", "optimizer")
RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"


def profile(form: str, steps: int, packed: bool) -> dict[str, float]:
    """Median seconds of every part over ``steps`` steps (after two to warm up), and tokens per step."""
    recipe = load_recipe(RECIPE)
    policy = load_policy(recipe.model.model_copy(update={"packed": packed, "threads": None}))
    prepared = prepare(recipe, load_items(recipe), policy.frame)
    sampler = QuestionSampler({form: prepared.of("train", form)}, {form: 1.0}, recipe.rl.prompts_per_step, 0)
    objective = GrpoObjective(
        policy, sampler, recipe.rl, recipe.sampling, recipe.rewards, seed=0, budget=steps + 2, reference=None
    )
    optimizer = torch.optim.AdamW(policy.training_parameters(), lr=recipe.rl.optimizer.lr, weight_decay=0.0, fused=True)
    rows: list[dict[str, float]] = []
    for step in range(1, steps + 3):
        row = {}
        clock = time.perf_counter()

        def lap(name: str, row: dict[str, float] = row) -> None:
            nonlocal clock
            now = time.perf_counter()
            row[name] = now - clock
            clock = now

        questions = sampler.draw(step)
        prompts = [policy.processor.encode_question(question) for question in questions]
        lap("encode")
        graph = kept_graph(policy, prompts, recipe.rl, recipe.sampling, objective.tokens.tokens)
        seed = derive_seed(0, "rollout", step)
        groups = rollout(policy, prompts, recipe.sampling, seed=seed, graph=graph)
        lap("rollout")
        graded = objective.grade(questions, groups, step, Logged(count=sum(len(g.completions) for g in groups)))
        lap("grade")
        batches = objective.pack(graded)
        lap("pack")
        policy.model.train()
        losses = [objective.loss(batch)[0] for batch in batches]
        lap("forward")
        for loss in losses:
            loss.backward()
        lap("backward")
        torch.nn.utils.clip_grad_norm_(policy.training_parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        lap("optimizer")
        row["tokens"] = sum(completion.length for group in groups for completion in group.completions)
        row["teaching_groups"] = sum(group.teaches for group in graded)
        rows.append(row)
    return {name: statistics.median(row[name] for row in rows[2:]) for name in (*PARTS, "tokens", "teaching_groups")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="one row a completion: what sharing the prompt is against")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {form: profile(form, arguments.steps, not arguments.plain) for form in ("binary", "choice", "open")}
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), {platform.machine()}; milliseconds, medians")
    print(f"{'form':8}" + "".join(f"{part:>11}" for part in PARTS) + f"{'sum':>8}{'tokens':>8}{'groups':>8}")
    for form, row in found.items():
        total = sum(row[part] for part in PARTS)
        cells = "".join(f"{1000 * row[part]:>11.1f}" for part in PARTS)
        print(f"{form:8}{cells}{1000 * total:>8.0f}{row['tokens']:>8.0f}{row['teaching_groups']:>8.0f}")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"threads": arguments.threads, "packed": not arguments.plain, "forms": found}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
