"""Throughput of the whole grader (``grade_all``) on ordinary completions, by task; needs no model.

    python benchmarks/grading.py                          # prints the table, writes benchmarks/results/grading.json
    python benchmarks/grading.py --seconds 2 --out FILE

Ordinary means: right and wrong answers in the writings of small VLMs, all distinct, with a think block of about 60
words. Of the math answers 5 % need computer algebra (the rest are decided by text and fractions), each pair its own;
``algebra`` are math answers that all need it. The verification server is started before the clock, as it is once for a
whole training. Each figure is the best of the passes, which other work on the machine disturbs least.
"""

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable
from pathlib import Path

from curr_reft.questions.question import Question
from curr_reft.rewards.grading import Completed, grade_all
from curr_reft.tasks.symbolic import POOL

REQUIRED = {"detection": 5000, "classification": 5000, "math": 500}  # completions a second
BATCH = 1024
ALGEBRA_SHARE = 0.05

THINK = (
    "I look at the image from left to right and compare every object with the question. The first one is close to the "
    "edge and partly hidden, the second one stands in the middle and is fully visible, and a third one is smaller and "
    "further away. After checking their colours, shapes and places once more I am sure of what to answer here."
)
ONE_WORD = (
    "person bicycle car motorcycle airplane bus train truck boat bench bird cat dog horse sheep cow elephant bear"
)
TWO_WORDS = ["traffic light", "fire hydrant", "stop sign", "parking meter", "wine glass", "potted plant", "cell phone"]
NAMES = [*ONE_WORD.split(), *TWO_WORDS]


def question(task: str, truth: object) -> Question:
    return Question(id="q", origin="q", task=task, form="open", prompt="", truth=truth, options=(), source="benchmark")


def detection(rng: random.Random) -> tuple[object, str]:
    x, y = rng.randint(0, 500), rng.randint(0, 500)
    truth = (float(x), float(y), float(x + rng.randint(20, 300)), float(y + rng.randint(20, 300)))
    x1, y1, x2, y2 = (int(value) + rng.randint(-20, 20) for value in truth)
    writings = (
        f'[{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "label": "the dog on the left"}}]',
        f'```json\n[\n\t{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "label": "dog"}}\n]\n```',
        f'{{"bbox_2d":[{x1},{y1},{x2},{y2}]}}',
        f"<ref>dog</ref><box>[[{x1}, {y1}, {x2}, {y2}]]</box>",
        f"[{x1}.5, {y1}.25, {x2}.0, {y2}.75]",
        f"({x1}, {y1}, {x2}, {y2})",
    )
    return truth, rng.choice(writings)


def classification(rng: random.Random) -> tuple[object, str]:
    truth = tuple(sorted(rng.sample(NAMES, rng.randint(1, 5))))
    given = rng.sample(truth, rng.randint(1, len(truth))) + rng.sample(NAMES, rng.randint(0, 2))
    writings: tuple[Callable[[], str], ...] = (
        lambda: ", ".join(given),
        lambda: json.dumps(given),
        lambda: str(given),
        lambda: "\n".join(f"- {name.title()}" for name in given),
        lambda: " and ".join(given),
    )
    return truth, rng.choice(writings)()


def algebra(rng: random.Random) -> tuple[object, str]:
    a, b, c = rng.randint(2, 999), rng.choice((2, 3, 5, 6, 7, 10)), rng.randint(1, 999)
    wrong = rng.randint(0, 1)
    return rng.choice(
        (
            (f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{a * a * b + wrong}}}"),
            (f"\\frac{{{a}\\pi}}{{{b}}}", f"{a}π/{b + wrong}"),
            (f"{a}x+{c}", f"{c}+{a + wrong}x"),
            (f"{c}-{a}\\sqrt{{{b}}}", f"{c}-sqrt({b})*{a + wrong}"),
        )
    )


def math(rng: random.Random) -> tuple[object, str]:
    if rng.random() < ALGEBRA_SHARE:
        return algebra(rng)
    n, wrong = rng.randint(1, 9999), rng.choice((0, 0, 1))
    m = rng.randint(2, 99)
    return rng.choice(
        (
            (str(n), f"{n + wrong}"),
            (str(n), f"The answer is {n + wrong}."),
            (str(n), f"$\\boxed{{{n + wrong}}}$"),
            (f"{n}.5", f"{n + wrong}.50"),
            (f"{n}/{m}", f"\\frac{{{n + wrong}}}{{{m}}}"),
            (f"{m / 100}", f"{m + wrong}%"),
            (f"{n} cm", f"{n + wrong} \\text{{ cm}}"),
            (f"{n:,}", f"{n + wrong}"),
            (rng.choice("ABCD"), f"{rng.choice('ABCD')}. {n} cm"),
            (f"{n}\\sqrt{{{m}}}", f"{n}\\sqrt{{{m}}}"),
        )
    )


MAKERS = {"detection": detection, "classification": classification, "math": math, "algebra": algebra}


def batch(name: str, seed: int, size: int = BATCH) -> list[Completed]:
    rng = random.Random(f"{name} {seed}")
    task = "math" if name == "algebra" else name
    rows = []
    for _ in range(size):
        truth, answer = MAKERS[name](rng)
        rows.append(Completed(question(task, truth), f"<think>{THINK}</think>\n<answer>{answer}</answer>"))
    return rows


def throughput(name: str, seconds: float) -> dict[str, float]:
    """Completions a second, the best pass and all passes together, over batches that are never repeated."""
    rates, completions, right, started = [], 0, 0, time.perf_counter()
    while not rates or time.perf_counter() - started < seconds:
        rows = [row[:3] for row in batch(name, len(rates))]
        begun = time.perf_counter()
        grades = grade_all(rows)
        rates.append(len(rows) / (time.perf_counter() - begun))
        completions += len(rows)
        right += sum(bool(grade.correct) for grade in grades)
    mean = len(rates) / sum(1 / rate for rate in rates)
    return {
        "best": round(max(rates)),
        "mean": round(mean),
        "passes": len(rates),
        "right": round(right / completions, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="at least so long per task")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "grading.json")
    arguments = parser.parse_args()
    POOL.start()
    batch_of_one = [row[:3] for row in batch("algebra", -1, 8)]
    grade_all(batch_of_one)  # forks the workers
    results = {name: throughput(name, arguments.seconds) for name in MAKERS}
    print(f"{'':16}{'completions/s':>14}{'mean':>8}{'required':>10}")
    for name, result in results.items():
        print(f"{name:16}{result['best']:>14,}{result['mean']:>8,}{REQUIRED.get(name, '-'):>10}")
    record = {
        "unit": "completions per second through grade_all",
        "batch": BATCH,
        "algebra_share_of_math": ALGEBRA_SHARE,
        "required": REQUIRED,
        "results": results,
        "machine": {
            "cores": os.cpu_count(),
            "load_before": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
        },
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    short = [name for name, rate in REQUIRED.items() if results[name]["best"] < rate]
    if short:
        raise SystemExit(f"below what is required: {', '.join(short)}")


if __name__ == "__main__":
    main()
