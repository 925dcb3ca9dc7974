"""What a command shows while it works: a bar on a terminal, lines elsewhere; and the log of a run.

A training shows its steps (``Console.row``), any other long phase how far it is (``progress``, ``track``). All that is
shown is written to the log of the run too, with times, whatever ``-q`` leaves out. Only the main process of a run shows
and writes. Colours follow NO_COLOR, which rich reads.

All text leaves through ``visible``: names, rows, replies and messages of libraries cannot act on the terminal. So
``print`` is called here alone; commands call ``show``.
"""

import logging
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias, TypeVar

from curr_reft import processes
from curr_reft.escaping import visible

if TYPE_CHECKING:  # imported where something is shown: --help is quicker without
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

T = TypeVar("T")
Advance: TypeAlias = Callable[[int], None]
"""To be called with the number of things that are done since the last call."""

EVERY = 30.0  # seconds between two lines on how far a phase is

log = logging.getLogger(__name__)


class Console:
    """Takes the rows of metrics.jsonl as they are written."""

    def __init__(self, quiet: bool = False, stderr: bool = False) -> None:
        from rich.console import Console as Terminal

        # Without a file: the stream is looked up at each print.
        self.terminal = Terminal(highlight=False, markup=False, emoji=False, quiet=quiet, stderr=stderr)
        self.started = time.perf_counter()
        self.budgets: dict[tuple[str, str], int] = {}
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._current: tuple[str, str] | None = None
        if not stderr:
            _output.console = self

    def say(self, text: str) -> None:
        """Print one line, with the time since the start, unless the command is quiet."""
        record(text)
        if not _output.quiet:
            self._print(f"[{time.perf_counter() - self.started:6.1f} s] {text}")

    def result(self, text: str) -> None:
        """Print a line of the final result, which a quiet command prints too."""
        record(text)
        self._print(text)

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
        line = f"{_name(key)} step {row['step']}/{self.budgets.get(key, '?')}: {text}"
        if not self.shows_bars:
            self.say(line)
            return
        record(line)
        if self._current != key:
            self.close()
            self._task = self.add_bar(_name(key), self.budgets.get(key))
            self._current = key
        assert self._task is not None
        self.move_bar(self._task, row["step"], text)

    def close(self) -> None:
        """Take the bar of the training off the screen."""
        if self._task is not None:
            self.remove_bar(self._task)
        self._task, self._current = None, None

    @property
    def shows_bars(self) -> bool:
        return self.terminal.is_terminal and not _output.quiet

    def add_bar(self, name: str, total: int | None) -> "TaskID":
        """Put a bar on the screen, below those that are there."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        if self._bars is None:
            # In a narrow terminal the numbers are cut, not the place and the time left.
            column = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            self._bars = Bars(
                TextColumn("{task.description}", markup=False), BarColumn(bar_width=10), MofNCompleteColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[text]}", markup=False, table_column=column),
                console=self.terminal, transient=True, expand=True,
            )  # fmt: skip
            self._bars.start()
        return self._bars.add_task(visible(name), total=total, text="")

    def move_bar(self, bar: "TaskID", done: int, text: str = "") -> None:
        assert self._bars is not None
        self._bars.update(bar, completed=done, text=visible(text))

    def remove_bar(self, bar: "TaskID") -> None:
        """Take a bar off the screen; with the last one the cursor is given back."""
        assert self._bars is not None
        if len(self._bars.tasks) > 1:
            self._bars.remove_task(bar)
            return
        self._bars.stop()  # draws it once more before it goes
        self._bars = None

    def _print(self, text: str) -> None:
        self.terminal.print(visible(text), markup=False, emoji=False, soft_wrap=True)


@dataclass
class _Output:
    """What is shown, and where."""

    quiet: bool = False  # only errors and the final result
    console: Console | None = None  # the one that speaks for the command; none: phases are shown on stderr
    log: "RunLog | None" = None


_output = _Output()


def configure(*, verbose: bool = False, quiet: bool = False) -> None:
    """Set what this process shows from here on: ``verbose`` adds details, ``quiet`` leaves errors and the result."""
    _output.quiet, _output.console = quiet, None
    logger = logging.getLogger("curr_reft")
    shown = next((each for each in logger.handlers if isinstance(each, _ToStderr)), None)
    if shown is None:
        shown = _ToStderr()
        shown.setFormatter(_Format())
        logger.addHandler(shown)
    shown.setLevel(logging.ERROR if quiet else logging.DEBUG)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.setLogRecordFactory(_Record)
    sys.excepthook = _show_exception


def show(*lines: object) -> None:
    """Print lines of a command's result to standard output."""
    print(visible("\n".join(map(str, lines))), flush=True)


def show_error(text: str) -> None:
    """Print a message to standard error."""
    print(visible(text), file=sys.stderr, flush=True)


def relay(line: str, stream: TextIO) -> None:
    """Show a line that a user's code printed, unless the command is quiet."""
    record(line)
    if not _output.quiet:
        print(visible(line), file=stream)


class Progress:
    """How far a phase is. ``say`` gets a line every half minute; ``move`` is called at each step with what is done."""

    def __init__(
        self,
        what: str,
        total: int | None,
        say: Callable[[str], None],
        move: Callable[[int], None] = lambda done: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.done = what, total, 0
        self._say, self._move, self._clock = say, move, clock
        self._began = self._said = clock()

    def __call__(self, count: int = 1) -> None:
        """``count`` more are done."""
        self.reach(self.done + count)

    def reach(self, done: int) -> None:
        """So many are done in all."""
        self.done = done
        self._move(done)
        now = self._clock()
        if now - self._said >= EVERY:
            self._said = now
            self._say(self.line(now))

    def line(self, now: float) -> str:
        if self.total is None:
            return f"{self.what}: {self.done:,}"
        left = ""
        if 0 < self.done < self.total:
            left = f", about {_duration((now - self._began) * (self.total - self.done) / self.done)} left"
        return f"{self.what}: {self.done:,} of {self.total:,}{left}"


@contextmanager
def progress(
    what: str, total: int | None = None, *, lines: bool = True, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """Show how far a long phase is: a bar on a terminal, a line every half minute elsewhere unless the phase prints
    its own (``lines``). Only the main process shows it."""
    if not processes.is_main():
        yield Progress(what, total, _nothing)
        return
    console = _output.console = _output.console or Console(stderr=True)
    began = clock()
    if console.shows_bars:
        bar = console.add_bar(what, total)
        try:
            say = record if lines else _nothing
            yield (shown := Progress(what, total, say, lambda done: console.move_bar(bar, done), clock))
        finally:
            console.remove_bar(bar)
    else:
        yield (shown := Progress(what, total, console.say if lines else _nothing, clock=clock))
    log.debug("%s: %s in %.1f s", what, f"{shown.done:,}", clock() - began)


def track(things: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the things, and show how far they are."""
    if total is None and isinstance(things, Collection):
        total = len(things)
    with progress(what, total) as advance:
        for thing in things:
            yield thing
            advance()


class RunLog(logging.Handler):
    """Lines with times, appended to a file that is opened for each: nothing is lost with a killed process. ``held``
    says whether this process may write there. A disk that is full does not stop the run here."""

    def __init__(self, path: Path, held: Callable[[], bool]) -> None:
        super().__init__()
        self.setFormatter(_Format())
        self.path, self.held = path, held

    def emit(self, entry: logging.LogRecord) -> None:
        self.write(self.format(entry))

    def write(self, text: str) -> None:
        time_now = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(OSError):
            if self.held():
                with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write("".join(f"{time_now} {line}\n" for line in visible(text).split("\n")))


def open_log(path: Path, held: Callable[[], bool]) -> None:
    """Write what is shown from here on to ``path`` too."""
    close_log()
    _output.log = RunLog(path, held)
    logging.getLogger("curr_reft").addHandler(_output.log)


def close_log() -> None:
    """Write no more to the log of the run."""
    if _output.log is not None:
        logging.getLogger("curr_reft").removeHandler(_output.log)
    _output.log = None


def record(text: str) -> None:
    """Write a line to the log of the run only, if there is one."""
    if _output.log is not None:
        _output.log.write(text)


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to the stderr of the moment: while there is a bar, rich puts lines above it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Record(logging.LogRecord):
    """A record of any library: what it quotes (a field of a model's configuration, a header) is shown escaped."""

    def getMessage(self) -> str:  # noqa: N802 - the name is that of logging
        return visible(super().getMessage())


def _show_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    show_error("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"))


class _Format(logging.Formatter):
    def format(self, entry: logging.LogRecord) -> str:
        text = visible(super().format(entry))
        return text if entry.levelno < logging.WARNING else f"{entry.levelname.lower()}: {text}"


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


def _nothing(line: str) -> None:
    pass


def _name(key: tuple[str, str]) -> str:
    return key[0] if key[0] == key[1] else f"{key[0]} {key[1]}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
