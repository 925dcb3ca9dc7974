"""The process that measures: starts one process a side, lets them make steps in turn, and takes medians.

It imports nothing heavy, so that it takes no memory bandwidth from those it measures.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

from curr_reft.bench.shape import Shape
from curr_reft.bench.work import Options, Sizes, flops, step_work
from curr_reft.errors import TrainingError, UsageError

SUBJECT = Sizes(
    width=256,
    inner=768,
    layers=6,
    heads=8,
    kv_heads=2,
    vocabulary=4096,
    vision_width=256,
    vision_inner=512,
    vision_layers=4,
    vision_heads=8,
    full_layers=1,
    window=64,
    patch_values=1176,
    merged=4,
)
"""Of ``subject.build_config()``, told here because that one needs transformers."""

PHASES = ("generation", "training", "optimizer")  # they add up to the step

WARM = 3
"""Steps before any is measured. A process gets its memory from the system in the first ones, page by page: a fifth of a
step of ours, and nothing of a training run."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured, and how often."""

    repeats: int = 3
    options: Options = field(default_factory=Options)
    adapter: bool = False  # TRL with our trainer class as a third side
    threads: int = 1


class Side:
    """One measured process."""

    def __init__(self, name: str, shape: Shape, setting: Setting) -> None:
        self.name = name
        settings = {
            "shape": {"P": shape.P, "C": shape.C, "G": shape.G},
            "options": asdict(setting.options),
            "steps": setting.repeats + WARM,
            "threads": setting.threads,
        }
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "curr_reft.bench.child", name, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(setting.threads))},
        )

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()  # a side that waits for an order leaves
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def order(self, word: str) -> dict[str, Any]:
        """What the side answers to an order. Raises TrainingError with its last lines when it is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next thing the side says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        said: dict[str, Any] = json.loads(line)
        return said

    def _gone(self) -> TrainingError:
        self._process.wait()
        self._errors.seek(0)
        last = "".join(self._errors.readlines()[-12:])
        return TrainingError(f"bench: the process of {self.name!r} ended with code {self._process.returncode}:\n{last}")


def require_trl() -> None:
    """Raises UsageError when TRL is not installed."""
    if importlib.util.find_spec("trl") is None:
        raise UsageError("curr-reft bench compares with TRL, which is not installed: pip install 'curr-reft[trl]'")


def measure(shape: Shape, setting: Setting, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """One row of the table (see ``row``). Raises UsageError, TrainingError."""
    require_trl()
    names = ("ours", "peer", *(("adapter",) if setting.adapter else ()))
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Side(name, shape, setting)) for name in names}
        ready = {name: side.answer() for name, side in sides.items()}
        assert len({said["weights"] for said in ready.values()}) == 1, "the sides start from the same weights"
        for side in sides.values():
            for _ in range(WARM):
                side.order("step")
        steps: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        bounds = []
        for number in range(setting.repeats):
            bounds.append(sides["ours"].order("bound")["seconds"])
            for name, side in sides.items():
                steps[name].append(side.order("step"))
            seconds = ", ".join(f"{name} {steps[name][-1]['seconds']['step']:.2f} s" for name in names)
            say(f"{shape} [{number + 1}/{setting.repeats}]: {seconds}, bound {bounds[-1]:.2f} s")
    return row(shape, setting, ready, steps, bounds)


def row(
    shape: Shape,
    setting: Setting,
    ready: dict[str, dict[str, Any]],
    steps: dict[str, list[dict[str, Any]]],
    bounds: Sequence[float],
) -> dict[str, Any]:
    """Medians over the repeats; ratios are TRL's seconds over ours, ``cpu_ratio`` of the processor time of a step.

    ``peak_bytes`` of a side: the most it ever held, what it held before it built the model (the imports), and the
    difference.
    """
    seconds = {
        name: {phase: statistics.median(one["seconds"][phase] for one in each) for phase in each[0]["seconds"]}
        for name, each in steps.items()
    }
    memory = {name: (max(one["peak"] for one in each), ready[name]["baseline"]) for name, each in steps.items()}
    pairs = [
        peer["seconds"]["step"] / ours["seconds"]["step"]
        for ours, peer in zip(steps["ours"], steps["peer"], strict=True)
    ]
    bound = statistics.median(bounds)
    work = {shared: step_work(SUBJECT, shape, setting.options, shared=shared) for shared in (True, False)}
    ours, peer = seconds["ours"], seconds["peer"]
    made: dict[str, Any] = {
        "shape": {"P": shape.P, "visual": shape.visual, "C": shape.C, "G": shape.G},
        "options": asdict(setting.options),
        "repeats": setting.repeats,
        "ratio": peer["step"] / ours["step"],
        "ratio_range": [min(pairs), max(pairs)],
        "cpu_ratio": peer["cpu"] / ours["cpu"],
        "phase_ratios": {phase: peer[phase] / ours[phase] for phase in PHASES},
        "predicted_ratio": flops(work[False]) / flops(work[True]),
        "gflops": {"ours": flops(work[True]) / 1e9, "peer": flops(work[False]) / 1e9},
        "bound_seconds": bound,
        "bound_share": bound / ours["step"],
        "seconds": seconds,
        "peak_bytes": {
            name: {"peak": peak, "imports": imports, "above_imports": peak - imports}
            for name, (peak, imports) in memory.items()
        },
        "machine": ready["ours"]["machine"],
        "versions": ready["peer"]["versions"],
    }
    if "adapter" in seconds:
        made["adapter_ratio"] = peer["step"] / seconds["adapter"]["step"]
    return made
