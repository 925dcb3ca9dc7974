"""A run directory as a finished run leaves it, small and made up, for the tests of the report."""

import json
import math
import random
from pathlib import Path
from typing import Any

from curr_reft.data.shapes import shapes_items

TASKS = ("detection", "classification", "math")
STAGES = (("01-binary", "binary", 25), ("02-choice", "choice", 25), ("03-open", "open", 70))
LEVELS = {  # model -> in-domain, out-of-domain
    "base": (0.09, 0.15),
    "sft": (0.85, 0.34),
    "rl": (0.92, 0.56),
    "curr_rl": (0.93, 0.58),
    "curr_reft": (0.94, 0.60),
}


def make_run(path: Path, models: tuple[str, ...] = tuple(LEVELS)) -> Path:
    """Writes every file the report reads."""
    rng = random.Random(0)
    _json(path / "run.json", {
        "format": 1, "name": "demo", "state": "done", "seed": 0, "recipe_sha256": "5f" * 32,
        "versions": {"curr-reft": "0.1.0", "python": "3.11.4", "torch": "2.13.0+cpu", "transformers": "5.17.0"},
        "started": "2026-11-21T05:13:00+00:00", "finished": "2026-11-21T05:19:42+00:00", "resumed": [], "phases": {},
    })  # fmt: skip
    (path / "recipe.yaml").write_text("name: demo\nseed: 0\nmodel:\n  path: embedded\n")
    _json(path / "summary.json", _summary(models))
    _lines(path / "metrics.jsonl", _metrics(rng))
    _json(path / "data" / "card.json", _card())
    _json(path / "eval" / "profile.json", {"cells": _profile()})
    before: str | None = None  # the base of the embedded model has no published hash
    for number, (name, form, steps) in enumerate(STAGES):
        after = f"{number + 1}c" * 32
        checks = [
            {"step": step, "score": 0.5 + step / 200, "accuracy": 0.4 + step / 200} for step in range(10, steps + 1, 10)
        ]
        _json(path / "stages" / name / "manifest.json", {
            "stage": name, "form": form, "steps": steps, "ended_by": "budget" if form == "open" else "gate",
            "chosen_step": checks[-1]["step"], "validation": checks, "weights_sha256": after, "start_sha256": before,
        })  # fmt: skip
        before = after
    _json(path / "self-improve" / "manifest.json", {
        "stage": "self_improvement", "form": "open", "steps": 30, "ended_by": "budget", "chosen_step": 30,
        "validation": [{"step": 30, "score": 0.9, "accuracy": 0.9}], "weights_sha256": "9e" * 32,
        "start_sha256": before,
    })  # fmt: skip
    _json(path / "self-improve" / "account.json", {
        "queries": 240, "candidates": 1920, "kept": 150, "threshold": 85,
        "by_domain": {domain: {"queries": 60, "candidates": 480, "above": 300 - 40 * n, "kept": 38, "quota": 40}
                      for n, domain in enumerate((*TASKS, "arithmetic"))},
    })  # fmt: skip
    _lines(path / "self-improve" / "kept.jsonl", [
        {"id": f"{domain}/{n}", "domain": domain, "task": domain, "images": [],
         "messages": [{"role": "user", "content": f"<image>how many red plus how many blue ({n})"},
                      {"role": "assistant", "content": "<think>red 1, blue 2</think><answer>3</answer>"}],
         "scores": {"accuracy": 100, "logic": 90, "format": 100, "fluency": 88, "total": 95}}
        for domain in (*TASKS, "arithmetic") for n in range(3)
    ])  # fmt: skip
    _predictions(path, models, rng)
    return path


def _summary(models: tuple[str, ...]) -> dict[str, Any]:
    def cell(value: float, n: int = 200) -> dict[str, float]:
        half = 1.96 * math.sqrt(value * (1 - value) / n)
        return {
            "accuracy": value * 0.97,
            "score": value,
            "low": max(0, value - half),
            "high": min(1, value + half),
            "n": n,
        }

    def split(level: float) -> dict[str, Any]:
        cells = {
            task: cell(min(0.99, max(0.02, level + shift)))
            for task, shift in zip(TASKS, (0.02, -0.05, 0.03), strict=True)
        }
        return cells | {"mean": cell(level, 600)}

    return {
        "seconds": 402.3,
        "model": "embedded",
        "stages": [
            {"name": name, "form": form, "steps": steps, "reward_first": 0.4, "reward_last": 1.2,
             "accuracy_first": 0.35, "accuracy_last": 0.88, "chosen_step": steps, "validation_accuracy": 0.8}
            for name, form, steps in STAGES
        ],
        "self_improvement": {"queries": 240, "candidates": 1920, "kept": 150, "threshold": 85},
        "evaluation": {
            model: {"in_domain": split(LEVELS[model][0]), "out_of_domain": split(LEVELS[model][1])} for model in models
        },
    }  # fmt: skip


def _metrics(rng: random.Random) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def train(run: str, stage: str, form: str, step: int, share: float) -> dict[str, Any]:
        accuracy = min(1, max(0, 0.3 + 0.65 * (1 - math.exp(-4 * share)) + rng.gauss(0, 0.05)))
        return {
            "kind": "train", "run": run, "stage": stage, "form": form, "step": step, "reward": accuracy + 0.5,
            "format": 0.95, "accuracy": accuracy, "loss": 0.01, "grad_norm": 1.0, "lr": 1e-4, "kl": 0.02,
            "entropy": 0.4, "zero_variance": min(1, 0.1 + 0.6 * share + rng.gauss(0, 0.04)),
            "truncated": max(0, 0.2 - share / 2),
            "length": 18 - 5 * share + rng.gauss(0, 0.5), "tokens_per_second": 900,
            "seconds": {"rollout": 0.1, "grade": 0.01, "train": 0.1, "rest": 0.01}, "statuses": {"ok": 96},
        }  # fmt: skip

    for name, form, steps in STAGES:
        for step in range(1, steps + 1):
            rows.append(train("curr_rl", name, form, step, step / steps))
            if step % 10 == 0:
                rows.append({"kind": "validation", "run": "curr_rl", "stage": name, "step": step,
                             "score": 0.5, "accuracy": 0.4 + step / 200, "tasks": {}})  # fmt: skip
    rows += [train("rl", "rl", "open", step, step / 120) for step in range(1, 121)]
    for run, steps in (("sft", 120), ("self_improvement", 30)):
        rows += [
            {"kind": "train", "run": run, "stage": run, "step": step, "loss": 1.5 * math.exp(-step / 20) + 0.1}
            for step in range(1, steps + 1)
        ]
    return rows


def _card() -> dict[str, Any]:
    items = dict.fromkeys(TASKS, 600)
    one = {
        "items": items, "questions": {task: {"binary": 600, "choice": 590, "open": 600} for task in TASKS},
        "decisions": {task: {"no": 300, "yes": 300} for task in TASKS},
        "letters": {task: {"A": 150, "B": 149, "C": 151, "D": 150} for task in TASKS}, "right_letters": {},
        "skipped": {"detection": {"choice": {"fewer than four separate boxes": 10}}}, "duplicates": 0,
    }  # fmt: skip
    compiled = {"seed": 0, "style": "plain", "leaks": 0, "splits": {"train": one, "validation": one}, "total": one}
    counts = dict.fromkeys(("train", "validation", "test", "ood_test"), items)
    return {"items": counts, "skipped_rows": 3, "skipped_first": [], "repaired_rows": 0, "questions": compiled}


def _profile() -> list[dict[str, Any]]:
    rates = {"binary": (0.5, 0.8, 0.9), "choice": (0.27, 0.6, 0.7), "open": (0.05, 0.1, 0.12)}
    chances = {"binary": 0.5, "choice": 0.25, "open": 0.0}
    return [
        {"task": task, "form": form, "pass_rate": rate, "chance": chances[form], "n": 240,
         "solved_once": min(1, 2 * rate), "low": max(0, rate - 0.05),
         "high": min(1, rate + 0.05), "at_chance": abs(rate - chances[form]) < 0.03,
         "expected_successes": round(rate * 2400)}
        for position, task in enumerate(TASKS)
        for form in rates
        for rate in (rates[form][position],)
    ]  # fmt: skip


def _predictions(path: Path, models: tuple[str, ...], rng: random.Random) -> None:
    (path / "eval" / "images").mkdir(parents=True, exist_ok=True)
    for model in models:
        rows = []
        for split, name in (("test", "in_domain"), ("ood_test", "out_of_domain")):
            level = LEVELS[model][name == "out_of_domain"]
            for item in shapes_items(0, split, dict.fromkeys(TASKS, 5)):
                image = f"eval/images/{item.id.replace('/', '-')}.png"
                if not (path / image).exists():
                    item.images[0].open().save(path / image)
                right = rng.random() < level
                truth_box = list(item.truth) if item.task == "detection" else None
                moved = [value + (0 if right else 15) for value in truth_box] if truth_box else None
                answer = moved or (item.truth if right else "red circle")
                answer = ", ".join(answer) if isinstance(answer, tuple) else str(answer)
                rows.append({
                    "id": item.id, "split": name, "task": item.task, "form": "open",
                    "prompt": f"{item.question}\nThink first, then answer.", "truth": json.dumps(item.truth),
                    "completion": f"<think> I look at the picture </think><answer>{answer}</answer>",
                    "status": "ok", "format": 1.0, "score": float(right), "correct": right, "image": image,
                    "truth_boxes": [truth_box] if truth_box else [], "predicted_boxes": [moved] if moved else [],
                })  # fmt: skip
        _lines(path / "eval" / f"{model}.predictions.jsonl", rows)


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
