"""How fast question sets are compiled, and in how much memory: 10,000 and 100,000 rows to three forms on disk.

    python benchmarks/compile.py [--rows 10000 100000] [--images 2000] [--json FILE]

Rows of three tasks in equal parts, written as JSONL with small pictures; nothing is decoded (check_images: header,
leaks: exact). Each size is built in a process of its own as ``curr-reft data build`` does it; the peak is that of the
process. What the interpreter and the libraries take is measured by a build of 300 rows.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

NAMES = ("person", "dog", "cat", "car", "bus", "traffic light", "tree", "cup", "bench", "bicycle", "boat", "bird")
RECIPE = """\
name: rows
data:
  kind: files
  check_images: header
  leaks: exact
  files:
    train: [{path: train.jsonl}]
    validation: [{path: validation.jsonl}]
    test: [{path: test.jsonl}]
curriculum: {total_steps: 1, stages: [{name: open, forms: {open: 1}, steps: rest}]}
evaluation: {models: [base, curr_rl]}
"""


def write_rows(folder: Path, rows: int, images: int) -> Path:
    """A recipe with ``rows`` rows: 90 % train, 5 % validation, 5 % test, each with pictures of its own."""
    rng = random.Random(0)
    (folder / "images").mkdir()
    number = 0
    for split, share in (("train", 0.9), ("validation", 0.05), ("test", 0.05)):
        names = []
        for _ in range(max(1, round(images * share))):
            shade = (number % 256, number // 256 % 256, 99)
            Image.new("RGB", (rng.randint(300, 640), rng.randint(300, 640)), shade).save(
                folder / f"images/{number}.png"
            )
            names.append(f"images/{number}.png")
            number += 1
        with (folder / f"{split}.jsonl").open("w") as file:
            for place in range(round(rows * share)):
                file.write(json.dumps(_row(rng, place) | {"image": rng.choice(names)}) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def _row(rng: random.Random, place: int) -> dict[str, Any]:
    task = ("detection", "classify", "math")[place % 3]
    if task == "detection":
        x, y = rng.randint(0, 200), rng.randint(0, 200)
        box = [x, y, x + rng.randint(20, 99), y + rng.randint(20, 99)]
        return {"problem": f"Where is thing {place}?", "task": task, "solution": f"<answer>{box}</answer>"}
    if task == "classify":
        shown = ", ".join(rng.sample(NAMES, rng.randint(1, 4)))
        return {
            "problem": f"Which categories are in image {place}?",
            "task": task,
            "solution": f"<answer>{shown}</answer>",
        }
    return {"problem": f"How much is {place}?", "task": task, "solution": f"<answer>{rng.randint(0, 500)}</answer>"}


def measure(rows: int, images: int) -> dict[str, float]:
    """Seconds and peak bytes of one build."""
    with tempfile.TemporaryDirectory() as name:
        recipe = write_rows(Path(name), rows, images)
        command = [sys.executable, __file__, "--one", str(recipe), str(Path(name) / "out")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def build_one(recipe: str, out: str) -> None:
    """In a process of its own: the libraries are loaded before the clock starts."""
    from curr_reft.question_sets import build_question_sets
    from curr_reft.recipe import load_recipe

    loaded = load_recipe(recipe)
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    card = build_question_sets(loaded, Path(out), frame="pixels")
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert sum(file["rows"] for name, file in card["files"].items() if name.startswith("questions/")), card["files"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": after.ru_maxrss * 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "compile.json")
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        build_one(*arguments.one)
        return
    bare = measure(300, arguments.images)
    found: dict[str, Any] = {"images": arguments.images, "bare_peak_bytes": bare["peak_bytes"], "rows": {}}
    print("| rows | seconds | CPU seconds | peak MB | bytes a row above a build of 300 rows |")
    print("|---|---|---|---|---|")
    for rows in arguments.rows:
        one = measure(rows, arguments.images)
        each = (one["peak_bytes"] - bare["peak_bytes"]) / rows
        found["rows"][str(rows)] = one | {"bytes_a_row": each}
        times = f"{one['seconds']:.1f} | {one['cpu_seconds']:.1f}"
        print(f"| {rows:,} | {times} | {one['peak_bytes'] / 1e6:.0f} | {each:.0f} |")
    arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
