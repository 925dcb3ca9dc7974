"""When would a gate end a stage? Simulates the accuracy of a stage's rollouts and counts, over many stages, at which
update each gate opens.

    python benchmarks/gates.py [--alike 0.2] [--stages 200] [--json FILE]

An update holds PROMPTS prompts of GROUP completions. Completions of one prompt are alike, so an update's mean is
noisier than that of as many prompts with one completion: the rate of a prompt is drawn around that of the stage (beta
distribution), with the intraclass correlation ALIKE (column alike of ``curr-reft data difficulty``). Three courses of
the stage's rate: rising to the end, risen to a plateau, flat from the start.
"""

import argparse
import json
import random
import statistics
from collections.abc import Callable
from pathlib import Path

from curr_reft.curriculum.config import GateConfig
from curr_reft.curriculum.gate import AccuracyGate

PROMPTS, GROUP, BUDGET = 12, 8, 120

COURSES: dict[str, Callable[[int], float]] = {
    "rises to the end (0.3 to 0.9)": lambda step: 0.3 + 0.6 * step / BUDGET,
    "rises for 40 updates, then 0.7": lambda step: 0.3 + 0.4 * min(1.0, step / 40),
    "flat at 0.5": lambda step: 0.5,
}
GATES = {
    "accuracy 0.8, window 10": GateConfig(accuracy=0.8),
    "accuracy 0.8, window 10, patience 5": GateConfig(accuracy=0.8, patience=5),
    "plateau 0.02, window 10": GateConfig(accuracy=None, plateau=0.02),
    "plateau 0.02, window 10, patience 5": GateConfig(accuracy=None, plateau=0.02, patience=5),
    "plateau 0.02, window 20, patience 5": GateConfig(accuracy=None, plateau=0.02, window=20, patience=5),
}


def update_mean(rate: float, alike: float, rng: random.Random) -> float:
    """The mean accuracy of one update."""
    right = 0
    concentration = 1 / alike - 1  # of a beta distribution whose variance is alike * rate * (1 - rate)
    for _ in range(PROMPTS):
        own = rng.betavariate(concentration * rate, concentration * (1 - rate))
        right += sum(rng.random() < own for _ in range(GROUP))
    return right / (PROMPTS * GROUP)


def opened_at(config: GateConfig, course: Callable[[int], float], alike: float, rng: random.Random) -> int | None:
    """The update that ends the stage; None when it is the budget."""
    gate = AccuracyGate(config, ["open"])
    for step in range(1, BUDGET + 1):
        gate.update({"by_form": {"open": {"accuracy": update_mean(course(step), alike, rng), "n": PROMPTS * GROUP}}})
        if gate.open():
            return step
    return None


def shown(ended: list[int], stages: int) -> str:
    """The share of stages that the gate ended, and the update: median, first and last tenth."""
    if len(ended) < 2:
        return f"{len(ended) / stages:.0%}"
    tenths = statistics.quantiles(ended, n=10)
    return f"{len(ended) / stages:.0%}, update {statistics.median(ended):.0f} ({tenths[0]:.0f}-{tenths[-1]:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alike", type=float, default=0.2, help="in (0, 1)")
    parser.add_argument("--stages", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    facts: dict[str, dict[str, object]] = {}
    print(f"| gate | {' | '.join(COURSES)} |\n|---|{'---|' * len(COURSES)}")
    for gate, config in GATES.items():
        cells, facts[gate] = [], {}
        for name, course in COURSES.items():
            seeds = [f"{gate} {name} {n}" for n in range(arguments.stages)]
            steps = [opened_at(config, course, arguments.alike, random.Random(seed)) for seed in seeds]
            ended = [step for step in steps if step is not None]
            cells.append(shown(ended, len(steps)))
            facts[gate][name] = {"ended": len(ended) / len(steps), "steps": ended}
        print(f"| {gate} | {' | '.join(cells)} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
