"""What a run tells: a line a step where nobody watches, a bar with the same numbers on a terminal."""

import io
import logging
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console as Terminal

from curr_reft import console, processes
from curr_reft.console import Console, progress, step_text, track

ROW: dict[str, Any] = {
    "run": "curr_rl", "stage": "02-choice", "kind": "train", "step": 7, "loss": 0.123, "reward": 1.25, "format": 0.75,
    "accuracy": 0.5, "zero_variance": 1 / 3, "truncated": 0.125, "tokens_per_second": 2345.6,
}  # fmt: skip
PARTS = ("reward 1.25", "format 0.75", "accuracy 0.50", "no variance 33%", "clipped 12%", "2346 tokens/s")


def test_a_step_is_one_line_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.begin("curr_rl", "02-choice", 60)
    console.row(ROW)
    console.row({**ROW, "step": 8, "by_form": "[red] is no markup"})
    console.row(
        {"run": "curr_rl", "stage": "02-choice", "kind": "validation", "step": 8, "accuracy": 0.5, "score": 0.6}
    )
    console.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "curr_rl 02-choice step 7/60: " in lines[0]
    for part in PARTS:
        assert part in lines[0]
    assert lines[2].endswith("curr_rl 02-choice step 8: validation accuracy 0.500, score 0.600")


def test_a_terminal_gets_a_bar_with_the_same_numbers() -> None:
    screen = io.StringIO()
    console = Console()
    console.terminal = Terminal(file=screen, force_terminal=True, width=200, highlight=False)
    console.begin("curr_rl", "02-choice", 60)
    console.row(ROW)
    console.say("a line above the bar")
    console.close()
    text = screen.getvalue()
    for part in ("curr_rl 02-choice", "7/60", *PARTS):
        assert part in text
    assert "a line above the bar" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is given back
    console.close()  # twice does no harm


def test_a_narrow_terminal_keeps_the_place_and_the_time_left() -> None:
    screen = io.StringIO()
    console = Console()
    console.terminal = Terminal(file=screen, force_terminal=True, width=80, highlight=False, color_system=None)
    console.begin("self_improvement", "", 2000)
    console.row({**ROW, "run": "self_improvement", "stage": "", "step": 1234})
    console.close()
    shown = screen.getvalue()
    for part in ("self_improvement ", "1234/2000 ", "-:--:--", "reward 1.25", "…"):
        assert part in shown


def test_steps_without_rewards_or_scores_show_their_loss() -> None:
    assert step_text({"loss": 0.5, "tokens_per_second": 10.0}) == "loss +0.500, 10 tokens/s"
    assert step_text({**ROW, "reward": None, "accuracy": None}).startswith("loss +0.123")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def as_at_the_start() -> Iterator[None]:
    console.configure()
    yield
    console.close_log()
    console.configure()


def test_a_long_phase_says_how_far_it_is_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress("comparing pictures", 1000, clock=clock) as advance:
        for _ in range(10):
            clock.now += 10
            advance(50)
    shown = capsys.readouterr()
    assert shown.out == ""  # what a command gives back may be piped
    lines = [line.partition("] ")[2] for line in shown.err.splitlines()]
    assert lines == [
        "comparing pictures: 150 of 1,000, about 3 min left",
        "comparing pictures: 300 of 1,000, about 2 min left",
        "comparing pictures: 450 of 1,000, about 2 min left",
    ]


def test_a_phase_of_a_run_speaks_where_the_run_does(capsys: pytest.CaptureFixture[str]) -> None:
    Console()
    clock = Clock()
    with progress("reading rows", clock=clock) as advance:
        clock.now += 31
        advance(1234)
    shown = capsys.readouterr()
    assert shown.out.endswith("] reading rows: 1,234\n")
    assert shown.err == ""


def test_a_phase_inside_of_a_training_gets_a_bar_below_its_own() -> None:
    screen = io.StringIO()
    shown = Console()
    shown.terminal = Terminal(file=screen, force_terminal=True, width=100, highlight=False)
    shown.begin("curr_rl", "02-choice", 60)
    shown.row(ROW)
    assert list(track(range(3), "answering questions")) == [0, 1, 2]
    assert shown._bars is not None
    assert len(shown._bars.tasks) == 1
    shown.row({**ROW, "step": 8})
    shown.close()
    assert "answering questions" in screen.getvalue()
    assert "8/60" in screen.getvalue()
    assert shown._bars is None


def test_an_error_takes_the_bar_off_the_screen() -> None:
    screen = io.StringIO()
    shown = Console()
    shown.terminal = Terminal(file=screen, force_terminal=True, width=100)
    with pytest.raises(ValueError, match="broken"), progress("judging answers", 5):
        raise ValueError("broken")
    assert shown._bars is None
    assert screen.getvalue().rindex("\x1b[?25h") > screen.getvalue().rindex("\x1b[?25l")


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown, screen = Console(), io.StringIO()
    shown.terminal = Terminal(file=screen, force_terminal=True, width=100, highlight=False)
    shown.begin("curr_rl", "02-choice", 60)
    shown.row(ROW)
    shown.close()
    assert not re.findall(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", screen.getvalue())


def test_quiet_leaves_the_result_and_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    console.configure(quiet=True)
    console.open_log(tmp_path / "run.log", lambda: True)
    shown, clock = Console(), Clock()
    shown.say("a step")
    shown.row(ROW)
    with progress("sampling", 10, clock=clock) as advance:
        clock.now += 40
        advance()
    logging.getLogger("curr_reft.data").warning("3 rows were left out")
    logging.getLogger("curr_reft.data").error("broken")
    shown.result("report: here")
    printed = capsys.readouterr()
    assert printed.out == "report: here\n"
    assert printed.err == "error: broken\n"
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "a step", f"curr_rl 02-choice step 7/?: {step_text(ROW)}", "sampling: 1 of 10, about 6 min left",
        "warning: 3 rows were left out", "error: broken", "report: here",
    ]  # fmt: skip
    assert all(datetime.fromisoformat(line.split(" ", 1)[0]).tzinfo for line in lines)


def test_verbose_adds_what_phases_took(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(verbose=True)
    list(track(range(4), "reading rows"))
    assert re.fullmatch(r"reading rows: 4 in \d+\.\d s\n", capsys.readouterr().err)
    console.configure()
    list(track(range(4), "reading rows"))
    assert capsys.readouterr().err == ""


def test_the_log_is_appended_to_and_stops_where_the_run_may_not_write(tmp_path: Path) -> None:
    path, may = tmp_path / "run.log", [True]
    for text in ("first", "second\nlines", "third"):
        console.open_log(path, lambda: may[0])
        Console().say(text)
        console.close_log()
        Console().say("after the run")
        may[0] = text == "first"
    assert [line.split(" ", 1)[1] for line in path.read_text().splitlines()] == ["first", "second", "lines"]


def test_a_full_disk_does_not_end_a_run_at_its_log(tmp_path: Path) -> None:
    console.open_log(tmp_path / "gone" / "run.log", lambda: True)
    Console().say("goes on")


def test_other_processes_of_a_run_show_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "is_main", lambda: False)
    clock = Clock()
    with progress("answering questions", 10, clock=clock) as advance:
        clock.now += 100
        advance(3)
    assert capsys.readouterr() == ("", "")
