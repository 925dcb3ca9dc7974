"""T1, T2: a run killed right after a save goes on from that very save, and all that follows has the same bits.

What is compared is every save as it came to its place (weights, optimizer, and the state: questions dealt, gate, best
so far), and in the end every file of the run: rollouts with the questions and the sampled answers of every step,
candidates, kept rows, metrics apart from times, predictions, published models. Saves fall between steps only
(``checkpoint.every`` counts steps), so there is no half-used batch of rollouts to keep.
"""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import dying
import exact_runs
import pytest
import tiny_run

Unbroken = Callable[[str], exact_runs.Unbroken]

TRAININGS = ("stages/01-binary", "stages/02-choice", "stages/03-open", "baselines/sft", "self-improve")
PARTS = ("part-000000.parquet", "part-000012.parquet", "part-000024.parquet")  # of the sampled answers: three of four


def every_save() -> Iterator[dying.Moment]:
    """Three save points of every phase, in the order of a run."""
    for folder in TRAININGS:
        if folder == "self-improve":
            yield from (dying.at_save(f"{folder}/candidates", part) for part in PARTS)
        yield from (dying.at_save(f"{folder}/checkpoints", f"step-{step:06d}") for step in exact_runs.SAVES)


WHOLE = tuple(every_save())
STAGE = f"{exact_runs.SECOND}/checkpoints"
TABLE = {
    "full": WHOLE,
    "lora": WHOLE,
    "settings": tuple(dying.at_save(STAGE, f"step-{step:06d}") for step in range(exact_runs.SETTINGS_STEPS)),
}
SAMPLE = TABLE["settings"][2:]


def assert_exact(whole: exact_runs.Unbroken, kind: str, moments: tuple[dying.Moment, ...], folder: Path) -> None:
    """Kill one run at all ``moments``, one after the other, and let it come to its end. ``folder/run`` may stand
    between two stages already."""
    for one, other in pairwise(save for save in whole.saves if "/checkpoints/" in save.path):
        if Path(one.path).parent == Path(other.path).parent:  # else equality would say nothing
            assert dict(one.sha256)["model.safetensors"] != dict(other.sha256)["model.safetensors"], other.path
    run, log, journal = folder / "run", folder / "log", folder / "journal"
    expected = [save for save in whole.saves if not (run / save.path).parents[1].exists()]
    for moment in moments:
        dying.killed("--resume", *exact_runs.FLAGS[kind], run=run, log=log, journal=journal, moment=moment)
        found = dying.saves(journal)
        assert found[-1].path == moment.there  # not a moment later, nor after the next save
        assert found == expected[: len(found)], f"up to {moment.there}"
    assert dying.end("--resume", *exact_runs.FLAGS[kind], run=run, log=log, journal=journal) == 0, log.read_text()
    # Each save once: nothing was done again that had been saved, and nothing came out otherwise.
    assert dying.saves(journal) == expected
    tiny_run.assert_same(run, whole.path)
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", TABLE)
def test_from_every_save_of_every_phase_a_run_goes_on_bit_for_bit(
    unbroken: Unbroken, tmp_path: Path, kind: str
) -> None:
    """Binary, choice, open, sampling, the SFT baseline and the fine-tuning of phase 2, with all weights trained and
    with an adapter under dropout; and all settings that keep state of their own, at once."""
    assert_exact(unbroken(kind), kind, TABLE[kind], tmp_path)


def test_settings_that_keep_state_are_resumed_bit_for_bit(unbroken: Unbroken, tmp_path: Path) -> None:
    """A sample of the table above: an adapter under dropout, two updates a batch with a KL penalty, groups that are
    replaced, questions of one image, replay, a warm-up, and a gate that ends the stage."""
    whole = unbroken("settings")
    exact_runs.between_stages(whole.path, tmp_path / "run")
    assert_exact(whole, "settings", SAMPLE, tmp_path)


def test_the_run_with_all_settings_does_what_they_say(unbroken: Unbroken) -> None:
    whole = unbroken("settings")
    rows = [row for row in tiny_run.rows(whole.path) if row["stage"] == "02-both" and row["kind"] == "train"]
    assert any(row["resample"]["replaced"] for row in rows)
    assert {form for row in rows for form in row["by_form"]} == {"binary", "choice", "open"}
    assert [row["lr"] for row in rows] == [pytest.approx(5e-3 * part) for part in (0.5, 1, 1)][
        : exact_runs.SETTINGS_STEPS
    ]
    assert all(row["kl"] > 0 and row["grad_norm"] > 0 for row in rows)
    manifest = json.loads((whole.path / "stages/02-both/manifest.json").read_text())
    assert manifest["ended_by"] == "gate"
    assert manifest["budget"] > exact_runs.SETTINGS_STEPS
    state = whole.path / STAGE / f"step-{exact_runs.SETTINGS_STEPS:06d}" / "state.json"
    ahead = json.loads(state.read_text())["objective"]["sampler"]["ahead"]
    assert any(places for tasks in ahead.values() for places in tasks.values())  # questions of one image
