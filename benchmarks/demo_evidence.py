"""What the demo shows over seeds: runs it (or reads finished runs) and prints scores (in-domain, out-of-domain, and on
the general pool that nothing is trained on), gains and times.

    python benchmarks/demo_evidence.py --seeds 0 1 2 --out runs/evidence [--json FILE]

A run that is finished in OUT/seed-N is read, one that was cut off goes on. Intervals are made of its answers, as this
version makes them.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from curr_reft.evaluate.clusters import cluster_of_row
from curr_reft.evaluate.general import SPLIT as GENERAL
from curr_reft.evaluate.score_intervals import score_intervals
from curr_reft.files import read_jsonl

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
SUITES = ("in_domain", "out_of_domain")
RESAMPLES = 2000


def finished_run(seed: int, out: Path) -> dict[str, Any]:
    """The summary of the demo with ``seed``, run now if it is not there."""
    folder = out / f"seed-{seed}"
    if not (folder / "summary.json").is_file():
        command = [sys.executable, "-m", "curr_reft.cli", "run", str(RECIPE), "--seed", str(seed)]
        subprocess.run([*command, "--output", str(folder), "--resume"], check=True)
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    for model in summary["evaluation"]:
        for suite, cells in _intervals(folder / "eval", model).items():
            scores = summary["general"][model] if suite == GENERAL else summary["evaluation"][model][suite]
            for cell, bounds in cells.items():
                assert abs(scores[cell]["score"] - bounds.pop("score")) < 1e-9, "the answers are those of the summary"
                scores[cell] |= bounds
    return summary


def _intervals(folder: Path, model: str) -> dict[str, dict[str, dict[str, float]]]:
    """Suite -> task, cell or mean -> score, low and high, of the answers in a run's folder ``eval``."""
    suites: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for kind in ("predictions", "general"):
        for row in read_jsonl(folder / f"{model}.{kind}.jsonl"):
            suite, cell = (GENERAL, row["split"]) if kind == "general" else (row["split"], row["task"])
            suites.setdefault(suite, {}).setdefault(cell, []).append((cluster_of_row(row), row["score"]))
    found = {}
    for suite, cells in suites.items():
        intervals, mean = score_intervals(cells, RESAMPLES)
        found[suite] = {
            name: {"score": each.mean, "low": each.low, "high": each.high}
            for name, each in {**intervals, "mean": mean}.items()
        }
    return found


def _general_pool(runs: dict[int, dict[str, Any]], models: list[str]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Prints the scores on the general pool, with the 95 % interval of each seed, and what self-improvement changed."""
    if not models:
        return {}
    first = next(iter(runs.values()))["general"][models[0]]
    cells = ["mean", *(cell for cell in first if cell != "mean")]
    found = {
        model: {cell: [run["general"][model][cell] for run in runs.values()] for cell in cells} for model in models
    }
    print(f"\n| general pool | {' | '.join(cells)} |")
    print("|---" * (1 + len(cells)) + "|")
    for model, own in found.items():
        texts = [
            f"{statistics.mean(each['score'] for each in scores):.3f} ("
            + ", ".join(f"{each['score']:.3f} [{each['low']:.3f}, {each['high']:.3f}]" for each in scores)
            + ")"
            for scores in own.values()
        ]
        print(f"| {model} | {' | '.join(texts)} |")
    print()
    if {"curr_rl", "curr_reft"} <= found.keys():
        for cell in cells:
            pairs = zip(found["curr_reft"][cell], found["curr_rl"][cell], strict=True)
            print(
                f"curr_reft over curr_rl, general {cell}: "
                + " ".join(f"{a['score'] - b['score']:+.3f}" for a, b in pairs)
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    runs = {seed: finished_run(seed, arguments.out) for seed in arguments.seeds}
    models = list(next(iter(runs.values()))["evaluation"])
    rows: dict[str, dict[str, Any]] = {}
    print(
        "| model | "
        + " | ".join(f"{suite.replace('_', '-')}, seeds {', '.join(map(str, runs))}" for suite in SUITES)
        + " |"
    )
    print("|---|---|---|")
    for model in models:
        rows[model] = {}
        cells = []
        for suite in SUITES:
            means = [run["evaluation"][model][suite]["mean"]["score"] for run in runs.values()]
            rows[model][suite] = means
            cells.append(f"{statistics.mean(means):.3f} ({' '.join(f'{mean:.3f}' for mean in means)})")
        print(f"| {model} | {' | '.join(cells)} |")
    for suite in SUITES:
        means = [run["evaluation"][model][suite]["mean"] for run in runs.values() for model in models]
        halves = sorted((mean["high"] - mean["low"]) / 2 for mean in means)
        print(f"{suite}: half of the 95 % interval of a mean is {halves[0]:.4f} to {halves[-1]:.4f}")
    general = _general_pool(runs, [model for model in models if all(model in run["general"] for run in runs.values())])
    for model in models[1:]:
        gains = {
            suite: [after - before for after, before in zip(rows[model][suite], rows["base"][suite], strict=True)]
            for suite in SUITES
        }
        text = "; ".join(
            f"{suite.replace('_', '-')} " + " ".join(f"{gain:+.3f}" for gain in own) for suite, own in gains.items()
        )
        print(f"{model} over base: {text}")
    for seed, run in runs.items():
        stages = ", ".join(
            f"{s['name']} {s['steps']} steps ({s['ended_by']}, chose {s['chosen_step']})" for s in run["stages"]
        )
        kept = run["self_improvement"]
        print(f"seed {seed}: {run['seconds']:.0f} s; {stages}; kept {kept['kept']} of {kept['candidates']}")
    if arguments.json:
        facts = {"scores": rows, "general": general, "seconds": {seed: run["seconds"] for seed, run in runs.items()}}
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
