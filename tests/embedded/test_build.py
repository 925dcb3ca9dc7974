"""``base build`` from nothing, every phase cut to a step or two: the folder loads, phases are kept and gone on from."""

from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path

import pytest
import torch

from curr_reft.embedded import build as building
from curr_reft.embedded.build import CARD, PLAN, WEIGHTS, build
from curr_reft.embedded.measure import measure
from curr_reft.files import read_json, sha256_file
from curr_reft.policy.load import load_policy

SHIPPED = Path(str(resources.files("curr_reft") / "embedded" / "model"))
SHORT = tuple(replace(phase, steps=2 if phase is PLAN[-1] else 1, rows=3) for phase in PLAN)


def test_a_short_build_goes_through_and_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(building, "measure", partial(measure, items=10))
    said: list[str] = []
    whole = build(tmp_path / "whole", SHORT, said.append, tmp_path / "phases")
    assert [line.split(":")[0] for line in said] == [phase.name for phase in PLAN]
    card = read_json(whole / CARD)
    assert card["recipe_sha256"] is None  # a cut plan is not the recipe
    assert card["weights_sha256"] == sha256_file(whole / WEIGHTS)
    assert len(card["validation"]["cells"]) == 9
    assert load_policy(whole).vocabulary_size == 214

    # What training does not touch is what is shipped, byte for byte.
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (whole / name).read_bytes() == (SHIPPED / name).read_bytes(), name

    # Cut off after the third phase and gone on with: the same weights, because phases hand over what is saved.
    for phase in PLAN[3:]:
        (tmp_path / "phases" / phase.name / WEIGHTS).unlink()
    said.clear()
    monkeypatch.setattr(building, "measure", lambda _: {})  # what is measured of equal weights is equal
    again = build(tmp_path / "again", SHORT, said.append, tmp_path / "phases")
    assert sum("taken from" in line for line in said) == 3
    assert sha256_file(again / WEIGHTS) == sha256_file(whole / WEIGHTS)
