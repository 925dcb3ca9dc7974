"""What phase 2 does to a model, over seeds and with paired intervals: to curr_rl, and to the base without phase 1.

    python benchmarks/phase_2_evidence.py --seeds 0 1 2 --out runs/evidence [--json FILE]

Goes on from finished runs of the demo in OUT/seed-N (``benchmarks/demo_evidence.py`` makes them) by the commands of the
single steps; their files stand in OUT/seed-N-phase-2, and what is there is not made again. Told are curr_reft, as the
run made it, against curr_rl; and "base + phase 2" against the base: the base samples, its verified answers are kept and
learned.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from curr_reft.compare import spread
from curr_reft.evaluate.differences import paired
from curr_reft.evaluate.general import SPLIT as GENERAL
from curr_reft.files import read_json, read_jsonl

RECIPE = Path(__file__).parents[1] / "recipes" / "demo.yaml"
SUITES = ("in_domain", "out_of_domain", GENERAL)
RESAMPLES = 2000
ALONE = "base + phase 2"
AFTER = {"curr_reft": "curr_rl", ALONE: "base"}  # model -> what it began as


def curr_reft(*words: object) -> None:
    """The command, as a user types it."""
    subprocess.run([sys.executable, "-m", "curr_reft", *map(str, words)], check=True)


def made(seed: int, out: Path) -> None:
    """The model that a run of the demo does not make, and its answers."""
    (out / "answers").mkdir(parents=True, exist_ok=True)
    if (out / "answers" / f"{ALONE}.json").is_file():
        return
    base = out / "base"
    curr_reft("sample", "embedded", RECIPE, "--out", base, "--seed", seed)
    curr_reft("judge", base, "--recipe", RECIPE)
    curr_reft("select", base, RECIPE, "--seed", seed)
    words = ("--rows", base / "kept.jsonl", "--out", out / "from-base", "--seed", seed, "--resume")
    curr_reft("sft", "embedded", RECIPE, *words)
    evaluated(out / "from-base" / "sft" / "model", ALONE, seed, out)


def evaluated(model: Path, name: str, seed: int, out: Path) -> None:
    """Every greedy answer of ``model`` to the test splits and the general pool, under ``name``."""
    link = out / name
    link.unlink(missing_ok=True)
    link.symlink_to(model.resolve(), target_is_directory=True)  # the answers' files are called as the model's folder
    answers = out / "answers"
    curr_reft("eval", link, RECIPE, "--seed", seed, "--answers", answers, "--json", answers / f"{name}.json")


def answers_of(model: str, run: Path, out: Path) -> list[dict[str, Any]]:
    """Rows of the test splits and of the general pool, whose cells become tasks of one suite."""
    folder = out / "answers" if model == ALONE else run / "eval"
    pool = read_jsonl(folder / f"{model}.general.jsonl")
    return [
        *read_jsonl(folder / f"{model}.predictions.jsonl"),
        *({**row, "split": GENERAL, "task": row["split"]} for row in pool),
    ]


def mean_score(rows: list[dict[str, Any]], suite: str) -> float:
    """Over the tasks of a suite."""
    tasks: dict[str, list[float]] = {}
    for row in rows:
        if row["split"] == suite:
            tasks.setdefault(row["task"], []).append(row["score"])
    return statistics.mean(map(statistics.mean, tasks.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    scores: dict[str, dict[str, list[float]]] = {}
    gains: dict[str, list[dict[str, Any]]] = {}
    kept: dict[str, list[int]] = {"curr_rl": [], "base": []}
    for seed in arguments.seeds:
        run, out = arguments.out / f"seed-{seed}", arguments.out / f"seed-{seed}-phase-2"
        if not (run / "summary.json").is_file():
            sys.exit(f"{run} is no finished run; benchmarks/demo_evidence.py makes it")
        made(seed, out)
        kept["curr_rl"].append(read_json(run / "self-improve" / "account.json")["kept"])
        kept["base"].append(read_json(out / "base" / "account.json")["kept"])
        rows = {model: answers_of(model, run, out) for model in (*dict.fromkeys(AFTER.values()), *AFTER)}
        for model, own in rows.items():
            for suite in SUITES:
                scores.setdefault(model, {}).setdefault(suite, []).append(mean_score(own, suite))
        for model, before in AFTER.items():
            gains.setdefault(model, []).append(paired(rows[model], rows[before], resamples=RESAMPLES))
    shown(arguments.seeds, scores, gains, kept)
    if arguments.json:
        facts = {"seeds": arguments.seeds, "kept": kept, "scores": scores, "differences": gains}
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


def shown(
    seeds: list[int],
    scores: dict[str, dict[str, list[float]]],
    gains: dict[str, list[dict[str, Any]]],
    kept: dict[str, list[int]],
) -> None:
    print(f"| model, mean (seeds {', '.join(map(str, seeds))}) | {' | '.join(SUITES)} |\n|---|---|---|---|")
    for model, suites in scores.items():
        cells = [f"{statistics.mean(own):.3f} ({' '.join(f'{x:.3f}' for x in own)})" for own in suites.values()]
        print(f"| {model} | {' | '.join(cells)} |")
    for model, by_seed in gains.items():
        for suite in SUITES:
            cells = list(dict.fromkeys(["mean", *by_seed[0][suite]]))
            for cell in cells if suite == GENERAL else ["mean"]:
                found = [each[suite][cell] for each in by_seed]
                texts = [f"{x['mean']:+.3f} [{x['low']:+.3f}, {x['high']:+.3f}]" for x in found]
                over = spread([x["mean"] for x in found])
                whole = "" if over["low"] is None else f"; over seeds [{over['low']:+.3f}, {over['high']:+.3f}]"
                print(f"{model} - {AFTER[model]}, {suite} {cell}: {over['mean']:+.3f}: {', '.join(texts)}{whole}")
    print("answers kept: " + "; ".join(f"of {model} {' '.join(map(str, own))}" for model, own in kept.items()))


if __name__ == "__main__":
    main()
