"""The measurement by the user's door at a small shape, and what it says when something is missing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curr_reft.bench import measure as bench
from curr_reft.bench.measure import Setting, Side, row
from curr_reft.bench.shape import Shape
from curr_reft.bench.table import markdown
from curr_reft.bench.work import Options
from curr_reft.cli import main
from curr_reft.errors import TrainingError, UsageError

SHAPE = Shape(P=28, C=3, G=2)


@pytest.mark.parametrize(
    ("flags", "sides"),
    [
        (["--lora", "--one-prompt-pass"], ["ours", "peer"]),
        pytest.param(["--lora", "--adapter"], ["ours", "peer", "adapter"], marks=pytest.mark.slow),
    ],
    ids=["two sides", "with the adapter"],
)
def test_the_command_measures_all_sides_and_keeps_the_figures(
    tmp_path: Path, flags: list[str], sides: list[str]
) -> None:
    file = tmp_path / "rows.json"
    words = ["bench", "--shape", "28,3,2", "--repeats", "1", *flags, "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "curr_reft.cli", *words], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    (made,) = json.loads(file.read_text())
    assert made["shape"] == {"P": 28, "visual": 8, "C": 3, "G": 2}
    variants = {"lora": True, "gradient_checkpointing": False, "one_prompt_pass": "--one-prompt-pass" in flags}
    assert made["options"] == variants
    assert set(made["seconds"]) == set(sides)
    for side in sides:
        seconds = made["seconds"][side]
        parts = [seconds[phase] for phase in ("generation", "training", "optimizer")]
        assert all(part > 0 for part in parts)
        assert sum(parts) == pytest.approx(seconds["step"])
        memory = made["peak_bytes"][side]
        assert memory["peak"] - memory["imports"] == memory["above_imports"] > 20e6
    assert made["ratio"] == made["seconds"]["peer"]["step"] / made["seconds"]["ours"]["step"]
    assert 0 < made["bound_share"] < 1
    assert made["machine"]["threads"] == 1
    assert made["versions"]["trl"].startswith("1.16")
    assert "| 28 (8) | 3 | 2 |" in done.stdout
    assert "with lora" in done.stdout


def test_variants_that_contradict_each_other_are_refused() -> None:
    words = ["bench", "--one-prompt-pass", "--gradient-checkpointing"]
    assert main(words) == 2


def step(generation: float, training: float, optimizer: float, peak: int) -> dict[str, Any]:
    total = generation + training + optimizer
    seconds = {"generation": generation, "training": training, "optimizer": optimizer, "step": total, "cpu": total}
    return {"seconds": seconds, "peak": peak}


def test_a_row_is_made_of_medians_and_of_the_largest_memory() -> None:
    said = {"baseline": 400, "machine": {}, "versions": {}}
    made = row(
        SHAPE,
        Setting(options=Options()),
        {"ours": said, "peer": said},
        {
            "ours": [step(1, 1, 1, 1000), step(9, 9, 9, 1200), step(2, 2, 2, 1100)],
            "peer": [step(8, 8, 8, 3000), step(10, 10, 10, 3500), step(90, 90, 90, 3400)],
        },
        [3.0, 4.0, 50.0],
    )
    assert made["ratio"] == 30 / 6
    assert made["ratio_range"] == [30 / 27, 270 / 6]
    assert made["phase_ratios"]["training"] == 5
    assert made["bound_share"] == 4 / 6
    assert made["peak_bytes"]["ours"] == {"peak": 1200, "imports": 400, "above_imports": 800}
    assert made["peak_bytes"]["peer"]["above_imports"] == 3100


def test_table_has_a_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    machine = {"cpu": "a core", "cores": 2, "threads": 1, "capability": "AVX512"}
    said = {"baseline": 10**8, "machine": machine, "versions": {"trl": "1.16.0"}}
    steps = {"ours": [step(1, 2, 1, 5 * 10**8)], "peer": [step(10, 20, 2, 2 * 10**9)]}
    made = row(SHAPE, Setting(), {"ours": said, "peer": said}, steps, [3.0])
    lines = markdown([made, made]).splitlines()
    assert lines[0] == "a core, 2 cores, 1 thread(s), AVX512; trl 1.16.0"
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert len(cells) == lines[2].count("|") - 1
    assert cells[3:7] == ["10.0x", "10.0x", "2.0x", "32.00 / 4.00 s"]
    assert cells[7] == "**8.0x** (8.0-8.0)"
    assert cells[10:13] == ["75%", "2.00 / 0.50 GB", "1.90 / 0.40 GB"]
    assert lines[-1] == lines[-2]


def test_without_trl_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'curr-reft\[trl\]'"):
        bench.require_trl()
    assert main(["bench", "--shape", "28,3,2"]) == 2
    assert "curr-reft[trl]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--repeats", "0"], ["--threads", "0"], ["--shape", "1,2"]], ids=" ".join)
def test_wrong_use_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_a_side_that_dies_is_told_with_its_last_words() -> None:
    with Side("nobody", SHAPE, Setting()) as side:
        side._process.kill()
        with pytest.raises(TrainingError, match="process of 'nobody' ended with code -9"):
            side.answer()
