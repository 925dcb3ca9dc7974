"""The measured process's end of the line to the process that measures: orders in, one JSON object a line out."""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from curr_reft.bench.measure import PHASES


class Link:
    """Waits for orders between steps and reports the phases of each. Whatever else is printed goes to stderr."""

    def __init__(self, measure_bound: Callable[[], float]) -> None:
        self._out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._measure_bound = measure_bound
        self._began = self._cpu = self._generated = self._optimizer = 0.0
        register_optimizer_step_pre_hook(self._before_optimizer)
        register_optimizer_step_post_hook(self._after_optimizer)

    def send(self, message: dict[str, Any]) -> None:
        print(json.dumps(message), file=self._out, flush=True)

    def begin(self) -> None:
        """Returns when the next step is to be made; its time runs from here."""
        for order in sys.stdin:
            if order == "step\n":
                break
            assert order == "bound\n", order
            self.send({"seconds": self._measure_bound()})
        else:
            sys.exit(0)  # the process that measures is gone
        self._optimizer = 0.0
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def generated(self) -> None:
        """The step's completions are there and graded."""
        self._generated = time.perf_counter()

    def finish(self) -> None:
        """The step is over."""
        total = time.perf_counter() - self._began
        generation = self._generated - self._began
        training = total - generation - self._optimizer
        seconds = dict(zip(PHASES, (generation, training, self._optimizer), strict=True))
        cpu = time.process_time() - self._cpu  # says what a busy machine hides: the step without waiting for a core
        self.send({"seconds": {**seconds, "step": total, "cpu": cpu}, "peak": peak_memory()})

    def _before_optimizer(self, *_: Any) -> None:
        self._optimizer -= time.perf_counter()

    def _after_optimizer(self, *_: Any) -> None:
        self._optimizer += time.perf_counter()


def peak_memory() -> int:
    """Bytes of resident memory this process had at most.

    From /proc where there is one: ``ru_maxrss`` of a fresh process starts at the size of the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        cpu = next(
            (line.split(": ")[1] for line in info.read_text().splitlines() if line.startswith("model name")), cpu
        )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
