"""Qwen2.5-VL-3B with random weights on one GPU: exactness, then the speed and memory of every phase, then TRL's step.

    python benchmarks/gpu.py [--budget-seconds 520] [--phases exact training ...] [--json FILE]
    python benchmarks/gpu.py --small        # a toy on the CPU, in seconds: that the script runs

Prompts have one image of 1,024 visual tokens and 1,050 tokens in all, answers have 64 tokens, groups 8 completions; the
model computes in bfloat16. No weights and no tokenizer are read: all are made here. Every phase is printed and written
to the JSON file when it ends, so a run that is cut keeps what it has; a phase that fails says why, and the next begins.

How figures and bounds are defined stands in ``curr_reft.bench.phases``. What is in memory in a step: 2 bytes a weight,
2 its gradient, 4 its float32 copy, 4 that copy's gradient (for the moment of the optimizer's step), 8 AdamW's moments
(``curr_reft.train.master_weights``): 75 GB for 3.75 billion, and activations.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from curr_reft.bench.accelerator import attempt
from curr_reft.bench.phases import Measurement
from curr_reft.bench.plan import real_plan, small_plan
from curr_reft.files import write_json

PHASES = ("machine", "exact", "prefill", "decode", "training", "step", "trl", "profile")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a toy model on the CPU")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES, help="the machine is always described")
    parser.add_argument("--budget-seconds", type=float, default=520.0, help="no phase begins after this")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    arguments = parser.parse_args()
    began = time.perf_counter()
    if not arguments.small and not torch.cuda.is_available():
        print("no GPU is at hand; --small runs a toy on the CPU", file=sys.stderr)
        return 2
    plan = small_plan() if arguments.small else real_plan(torch.device("cuda", 0))
    measurement = Measurement(plan)
    found: dict[str, Any] = {"small": plan.small, "shape": str(plan.shape), "prompts": plan.prompts}
    for name in PHASES:
        if name not in (*arguments.phases, "machine"):
            continue
        spent = time.perf_counter() - began
        late = spent > arguments.budget_seconds
        found[name] = {"skipped": "the budget is spent"} if late else attempt(getattr(measurement, name))
        ours = found.get("step", {}).get("two prompts, new images", {})
        if name == "trl" and "seconds" in found["trl"] and "seconds" in ours:
            found["ratio"] = found["trl"]["seconds"] / ours["seconds"]
        found["seconds"] = time.perf_counter() - began
        print(f"[{found['seconds']:.0f} s] {name}: {json.dumps(found[name], indent=2)}", flush=True)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, found)
    if "ratio" in found:
        print(f"TRL's step takes {found['ratio']:.1f} times as long as ours")
    return int(bool(failures(found)))


def failures(found: Any) -> list[str]:
    """Everything in ``found`` that failed or is not exact."""
    if not isinstance(found, dict):
        return []
    own = [found["failed"]] if "failed" in found else ["not exact"] if found.get("ok") is False else []
    return own + [each for value in found.values() for each in failures(value)]


if __name__ == "__main__":
    sys.exit(main())
