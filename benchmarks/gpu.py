"""Qwen2.5-VL-3B with random weights on one GPU: exactness, then the speed and memory of every phase, then TRL's step.

    python benchmarks/gpu.py [--budget-seconds 520] [--phases exact training ...] [--json FILE]
    python benchmarks/gpu.py --small        # a toy on the CPU, in seconds: that the script runs

Prompts have one image of 1,024 visual tokens and 1,050 tokens in all, answers have 64 tokens, groups 8 completions; the
model computes in bfloat16. No weights and no tokenizer are read: all are made here. Every phase is printed and written
to the JSON file when it ends, so a run that is cut keeps what it has; a phase that fails says why, and the next begins.

It is all there is to run on a GPU: its second phase are the tests that wait for one (``tests/**/test_*on_a_gpu.py``).
How figures and bounds are defined stands in ``curr_reft.bench.phases``. What is in memory: 2 bytes a weight, 2 its
gradient, 4 its float32 copy, 8 AdamW's moments (``curr_reft.train.master_weights``), 60 GB for 3.75 billion, and the
28.5 GB that backward of two groups needs of its forward (counted on tensors without memory; 1.3 GB where they are
computed again). For the moment of the optimizer's step gradients take 4 bytes, and nothing else is held: 67 GB.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))  # the package need not be installed where it is measured

import torch  # noqa: E402

from curr_reft.bench.accelerator import attempt  # noqa: E402
from curr_reft.bench.phases import Measurement  # noqa: E402
from curr_reft.bench.plan import real_plan, small_plan  # noqa: E402
from curr_reft.errors import UsageError  # noqa: E402
from curr_reft.files import write_json  # noqa: E402

PHASES = ("machine", "tests", "exact", "kernels", "prefill", "decode", "training", "step", "trl", "profile")
TESTS_LIMIT = 150.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a toy model on the CPU")
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES, help="the machine is always described")
    parser.add_argument("--budget-seconds", type=float, default=520.0, help="no phase begins after this")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.json")
    arguments = parser.parse_args()
    began = time.perf_counter()
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # of several, TRL's trainer would take all
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
        phase = run_tests if name == "tests" else getattr(measurement, name)
        found[name] = {"skipped": "the budget is spent"} if late else attempt(phase)
        ours = found.get("step", {}).get("two prompts, new images", {})
        if name == "trl" and "seconds" in found["trl"] and "seconds" in ours:
            found["ratio"] = found["trl"]["seconds"] / ours["seconds"]
        found["seconds"] = time.perf_counter() - began
        print(f"[{found['seconds']:.0f} s] {name}: {json.dumps(found[name], indent=2)}", flush=True)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, found)
    print(in_short(found))
    return int(bool(failures(found)))


def run_tests() -> dict[str, Any]:
    """The tests that wait for a GPU, in a process of their own. Raises UsageError where there is none."""
    if not torch.cuda.is_available():
        raise UsageError("these tests need a GPU")
    files = sorted(map(str, (ROOT / "tests").rglob("test_*on_a_gpu.py")))
    path = os.pathsep.join(filter(None, (str(ROOT / "src"), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "CURR_REFT_TEST_GPU": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TESTS_LIMIT,
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    told = {"outcome": lines[-1] if lines else "", "tests": [line for line in lines if line.startswith("FAILED")]}
    return told if done.returncode == 0 else {**told, "failed": "\n".join(lines[-60:])}


def failures(found: Any) -> list[str]:
    """Everything in ``found`` that failed or is not exact."""
    if not isinstance(found, dict):
        return []
    own = [found["failed"]] if "failed" in found else ["not exact"] if found.get("ok") is False else []
    return own + [each for value in found.values() for each in failures(value)]


def in_short(found: dict[str, Any]) -> str:
    """The figures that are looked for first; a dash for those that are not there."""

    def figure(*names: str) -> str:
        value: Any = found
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return f"{value:.3g}" if isinstance(value, float) else "-"

    lines = [
        ("rollouts a second, whole step", figure("step", "more prompts, known images", "rollouts_per_second")),
        ("MFU of training, in the step", figure("step", "more prompts, known images", "training_mfu")),
        *((f"MFU, {way}", figure("training", way, "mfu")) for way in found.get("training", {})),
        ("decoding over its bound, graphs", figure("decode", "graphs", "over_bound")),
        ("decoding over its bound, eager", figure("decode", "eager", "over_bound")),
        ("TRL's step over ours", figure("ratio")),
        ("seconds", figure("seconds")),
    ]
    wrong = failures(found)
    return "\n".join(
        [*(f"{name:48} {value}" for name, value in lines), *(f"FAILED: {each.partition(chr(10))[0]}" for each in wrong)]
    )


if __name__ == "__main__":
    sys.exit(main())
