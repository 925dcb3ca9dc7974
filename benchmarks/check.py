"""Seconds that ``curr-reft check`` takes for data sets of growing size, and where they go.

    python benchmarks/check.py --rows 1000 10000 --out benchmarks/results/check.json

Rows are drawn photographs as JPEG files, one a row, of three tasks; the model is a random Qwen2.5-VL of a few numbers
whose tokenizer spells any text in bytes and whose images are processed by the published settings. Nothing of a model's
weights is read: the time is that of rows, pictures, questions, truths and tokens, whatever the model.
"""

import argparse
import cProfile
import io
import json
import platform
import pstats
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from curr_reft.checks.check import examine
from curr_reft.files import write_json
from curr_reft.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from spelling_model import build_spelling_model

STAGES = {
    "rows and pictures": "_read",
    "repeats": "look",
    "questions": "compile_all",
    "truths": "check_truths",
    "tokens": "count_prompts",
}
COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (40, 60, 200), "yellow": (220, 200, 40)}


def write_rows(folder: Path, count: int, size: tuple[int, int], seed: int = 0) -> Path:
    """A recipe with ``count`` rows: JPEG files of noise with boxes drawn on it, one question each. Returns its path."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True)
    rows = []
    for number in range(count):
        coarse = noise.integers(60, 200, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(photo)
        colours = rng.sample(sorted(COLOURS), 3)
        boxes = [_box(rng, size) for _ in colours]
        for colour, box in zip(colours, boxes, strict=True):
            pen.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=COLOURS[colour])
        photo.save(folder / "photos" / f"{number:06}.jpg", quality=85)
        rows.append(_row(number, colours, boxes))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        "name: check\ndata:\n  kind: files\n  files:\n"
        "    train: [{path: rows.jsonl, image_root: photos}]\n    test_fraction: 0.1\n"
        f"model: {{path: {folder / 'model'}}}\noutput: {folder / 'run'}\n"
        "curriculum: {total_steps: 100, stages: [{name: open, forms: {open: 1}, steps: rest}]}\n"
        "evaluation: {models: [base, curr_rl]}\n"
    )
    return recipe


def _box(rng: random.Random, size: tuple[int, int]) -> list[int]:
    width, height = size[0] // rng.randint(5, 9), size[1] // rng.randint(5, 9)
    left, top = rng.randint(0, size[0] - width), rng.randint(0, size[1] - height)
    return [left, top, left + width, top + height]


def _row(number: int, colours: list[str], boxes: list[list[int]]) -> dict[str, Any]:
    image = f"{number:06}.jpg"
    if number % 3 == 0:
        return {
            "problem": f"Where is the {colours[0]} box?", "solution": str(boxes[0]), "task": "detection",
            "image": image, "distractors": boxes[1:],
        }  # fmt: skip
    if number % 3 == 1:
        return {"problem": "Which colours do the boxes have?", "solution": ", ".join(colours),
                "task": "classification", "image": image}  # fmt: skip
    return {"problem": f"How many boxes are there beside {number % 7} others?", "solution": str(3 + number % 7),
            "task": "math", "image": image}  # fmt: skip


def measure(recipe: Path) -> dict[str, Any]:
    """Seconds of a check as it is, then of its parts under a profiler, which slows them down."""
    loaded = load_recipe(recipe)
    started, worked = time.perf_counter(), time.process_time()
    report = examine(loaded)
    seconds, worked = time.perf_counter() - started, time.process_time() - worked
    assert report.found.problems == [], report.found.problems[:3]
    profile = cProfile.Profile()
    profile.runcall(examine, loaded)
    text = io.StringIO()
    table = pstats.Stats(profile, stream=text).stats  # type: ignore[attr-defined]
    total = max(each[3] for each in table.values())
    shares = {
        label: round(max((each[3] for place, each in table.items() if place[2] == name), default=0.0) / total, 3)
        for label, name in STAGES.items()
    }
    assert report.found.tokens is not None
    prompts = sum(len(counts) for counts in report.found.tokens.by_form.values())
    return {
        "seconds": round(seconds, 1),
        "processor_seconds": round(worked, 1),  # of this process, whoever else works on the machine
        "prompts": prompts,
        "shares": shares,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), help="width and height of a picture")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    results = []
    for count in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            recipe = write_rows(Path(folder), count, tuple(arguments.size))
            build_spelling_model(Path(folder) / "model")
            results.append({"rows": count, "pictures": list(arguments.size), **measure(recipe)})
        print(json.dumps(results[-1]), flush=True)
    if arguments.out:
        machine = {"processor": platform.processor() or platform.machine(), "threads": 1, "load": "others at work"}
        write_json(arguments.out, {"machine": machine, "results": results})


if __name__ == "__main__":
    main()
