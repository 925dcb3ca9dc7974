"""What a run tells while it works: a bar on a terminal, one line a step elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column


class Console:
    """Takes the rows of metrics.jsonl as they are written."""

    def __init__(self, quiet: bool = False) -> None:
        self.terminal = Terminal(file=sys.stdout, highlight=False, quiet=quiet)
        self.started = time.perf_counter()
        self.budgets: dict[tuple[str, str], int] = {}
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._current: tuple[str, str] | None = None

    def say(self, text: str) -> None:
        """One line, with the time since the start."""
        self.terminal.print(f"[{time.perf_counter() - self.started:6.1f} s] {text}", markup=False, soft_wrap=True)

    def begin(self, run: str, stage: str, budget: int) -> None:
        """A training of at most ``budget`` steps begins."""
        self.budgets[run, stage] = budget

    def row(self, row: Mapping[str, Any]) -> None:
        """Show one row of metrics."""
        key = (str(row["run"]), str(row["stage"]))
        if row["kind"] == "validation":
            self.say(
                f"{_name(key)} step {row['step']}: validation accuracy {row['accuracy']:.3f}, score {row['score']:.3f}"
            )
            return
        text = step_text(row)
        if not self.terminal.is_terminal:
            self.say(f"{_name(key)} step {row['step']}/{self.budgets.get(key, '?')}: {text}")
            return
        if self._current != key:
            self.close()
            # In a narrow terminal the numbers are cut, not the place and the time left.
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=10), TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(), TextColumn("{task.fields[text]}", table_column=rest),
                console=self.terminal, transient=True, expand=True,
            )  # fmt: skip
            self._progress.start()
            self._task = self._progress.add_task(_name(key), total=self.budgets.get(key), text="")
            self._current = key
        assert self._progress is not None
        assert self._task is not None
        self._progress.update(self._task, completed=row["step"], text=text)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._task, self._current = None, None, None


def step_text(row: Mapping[str, Any]) -> str:
    """The numbers of one training step in a line."""
    parts = [f"loss {row['loss']:+.3f}"]
    if row.get("reward") is not None:
        parts = [
            f"reward {row['reward']:.2f} (format {row['format']:.2f}, accuracy {row['accuracy']:.2f})",
            f"no variance {row['zero_variance']:.0%}",
            f"clipped {row['truncated']:.0%}",
        ]
    return ", ".join([*parts, f"{row['tokens_per_second']:.0f} tokens/s"])


def _name(key: tuple[str, str]) -> str:
    return key[0] if key[0] == key[1] else f"{key[0]} {key[1]}"
