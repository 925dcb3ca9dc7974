"""What saving costs a run: the seconds that the functions which write took, beside those of the whole run.

    python benchmarks/saving.py [RECIPE.yaml] [--json PATH] [--any.key value]     (default: recipes/demo.yaml)

Counted are checkpoints (hashes, syncs, and the removal of old ones), rollout files, metrics, notes on the run and
published models: with the time they wait for the disk. Not counted is the scoring on the validation split, which
chooses a checkpoint and would be needed if nothing were saved. Exit code 1 above 3 %.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curr_reft.cli import main as curr_reft
from curr_reft.curriculum import stage
from curr_reft.run import Run
from curr_reft.run_dir import RunDir
from curr_reft.train import loop

LIMIT = 0.03  # of a run's time
WRITERS: tuple[tuple[str, Any, str], ...] = (
    ("checkpoints", loop, "_save"),
    ("rollouts", stage, "write_rows"),
    ("published models", stage, "publish"),
    ("published models", stage, "_retire"),
    ("metrics and notes", RunDir, "append_metrics"),
    ("metrics and notes", RunDir, "_write"),
    ("metrics and notes", Run, "write"),
)
"""What is counted -> where its function stands. One that calls another of them is counted once, by its own name."""


class Clock:
    """Seconds and calls of the functions that write, by what they write."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._inside = False

    def watch(self, kind: str, owner: Any, name: str) -> None:
        right: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return right(*arguments, **options)
            self._inside, started = True, time.perf_counter()
            try:
                return right(*arguments, **options)
            finally:
                self._inside = False
                self.seconds[kind] += time.perf_counter() - started
                self.calls[kind] += 1

        setattr(owner, name, timed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="recipes/demo.yaml")
    parser.add_argument("--json", type=Path)
    arguments, flags = parser.parse_known_args()
    clock = Clock()
    for writer in WRITERS:
        clock.watch(*writer)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        code = curr_reft(["run", arguments.recipe, "--output", f"{folder}/run", *flags])
        total = time.perf_counter() - started
    if code:
        return code
    share = clock.seconds.total() / total
    print(f"the run took {total:.1f} s, saving {clock.seconds.total():.2f} s of it: {share:.2%} (limit {LIMIT:.0%})")
    for kind, seconds in clock.seconds.most_common():
        print(f"  {kind}: {seconds:.2f} s in {clock.calls[kind]} calls, {seconds / total:.2%}")
    if arguments.json:
        kinds = {kind: {"seconds": round(clock.seconds[kind], 3), "calls": clock.calls[kind]} for kind in clock.calls}
        result = {"recipe": arguments.recipe, "seconds": round(total, 1), "share": round(share, 5), "kinds": kinds}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return int(share > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
