"""What a run tells: a line a step where nobody watches, a bar with the same numbers on a terminal."""

import io
from typing import Any

import pytest
from rich.console import Console as Terminal

from curr_reft.console import Console, step_text

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
